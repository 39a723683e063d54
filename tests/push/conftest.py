"""A repository whose work lands on a bare remote next to it; no process of a test may outlive it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from push.remote_harness import RemoteHarness
from run_harness import tidied
from user_isolation import isolate_user_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate_user_settings(monkeypatch, tmp_path)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[RemoteHarness]:
    """A harness for a repository and its remote."""
    with tidied(RemoteHarness(tmp_path)) as made:
        yield made
