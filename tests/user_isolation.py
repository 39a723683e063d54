"""Keeps the settings and data of the user who runs the tests out of them."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from flows.data_directory import CACHE_VARIABLE


def isolate_user_settings(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Isolate the tests from the settings of the user who runs them."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(place / "no-settings"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in list(os.environ):
        is_theirs = name.startswith(("COORDINATOR_", "PREFECT_")) and name != CACHE_VARIABLE  # The tests set that one.
        if is_theirs or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def without_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without the user's own Prefect settings, which are for a server of theirs."""
    return {name: value for name, value in environment.items() if not name.upper().startswith("PREFECT_")}
