"""Fixtures for tests of the git adapter: a real repository, isolated from the user's settings."""

from pathlib import Path

import pytest
from new_repository import begin_repository
from user_isolation import isolate_user_settings

from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Isolate the tests from the settings of the user who runs them."""
    isolate_user_settings(monkeypatch, tmp_path)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with an identity and one commit on `main`, which has `README.md` and an ignored `build/`."""
    top = tmp_path / "repository"
    begin_repository(top)
    git = Git(top)
    (top / "README.md").write_text("# Example\n")
    (top / ".gitignore").write_text("build/\nmodules/\n")
    git.run("add", "--all")
    git.run("commit", "--quiet", "--message", "Begin")
    return Repository.open(top)
