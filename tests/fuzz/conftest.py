"""A repository that hostile files are put into."""

from pathlib import Path

import pytest
from hostile_repository import Ground
from user_isolation import isolate_user_settings


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the person who runs the tests take part in them, and none of their data is touched."""
    isolate_user_settings(monkeypatch, tmp_path)
    monkeypatch.setenv("COORDINATOR_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """A repository with one right task file, in a directory with something beside it."""
    return Ground(tmp_path / "repository")
