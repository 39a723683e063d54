"""A repository whose work lands on a bare remote beside it; nothing of a test may outlive it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from push.remote_harness import PushingGround
from run_harness import tidied
from user_isolation import forget_the_person


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_the_person(monkeypatch, tmp_path)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[PushingGround]:
    """A place for a repository and its remote."""
    with tidied(PushingGround(tmp_path)) as made:
        yield made
