"""A repository to put hostile files into."""

from pathlib import Path

import pytest
from hostile_repository import HostileRepository
from user_isolation import isolate_user_settings


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Isolate the tests from the settings and data of the user who runs them."""
    isolate_user_settings(monkeypatch, tmp_path)
    monkeypatch.setenv("COORDINATOR_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def hostile(tmp_path: Path) -> HostileRepository:
    """A repository with one valid task file, next to another directory."""
    return HostileRepository(tmp_path / "repository")
