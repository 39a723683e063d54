"""Keeps the settings and data of the user who runs the tests out of them."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest


def isolate_user_settings(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Isolate the tests from the settings of the user who runs them."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(place / "no-settings"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in list(os.environ):
        if name.startswith(("COORDINATOR_", "PREFECT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def without_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without the user's own Prefect settings, which are for a server of theirs."""
    return {name: value for name, value in environment.items() if not name.upper().startswith("PREFECT_")}
