"""A repository that hostile files are put into."""

from pathlib import Path

import pytest
from hostile_ground import Ground


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the person who runs the tests take part in them, and none of their data is touched."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "no-settings"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("COORDINATOR_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """A repository with one right task file, in a directory with something beside it."""
    return Ground(tmp_path / "repository")
