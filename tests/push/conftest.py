"""A repository whose work lands on a bare remote beside it; nothing of a test may outlive it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from life.helpers import tidied
from person import forget_the_person
from push.pushing_ground import PushingGround


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_the_person(monkeypatch, tmp_path)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[PushingGround]:
    """A place for a repository and its remote."""
    with tidied(PushingGround(tmp_path)) as made:
        yield made
