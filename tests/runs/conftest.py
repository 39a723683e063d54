"""Fixtures for tests that run nodes: a repository with an sh agent; no process of a test may outlive it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.opencode_harness import OpencodeHarness, isolate, opening
from run_harness import RunHarness, open_harness
from user_isolation import isolate_user_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate_user_settings(monkeypatch, tmp_path)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[RunHarness]:
    """A harness for one repository; at the end no process started by its runs may be alive."""
    with open_harness(tmp_path) as made:
        yield made


@pytest.fixture
def oc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpencodeHarness]:
    """A harness for one repository with the real opencode as agent; no process of its runs may outlive the test."""
    for name in [name for name in os.environ if name.startswith(("XDG_", "OPENCODE"))]:
        monkeypatch.delenv(name)
    for name, value in isolate(tmp_path).items():
        monkeypatch.setenv(name, value)
    with opening(tmp_path) as harness:
        yield harness
