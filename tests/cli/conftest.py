"""A repository with task files, and ways to call the command line on it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cli.command_host import CommandHost, open_command_host
from cli_fixtures import SETTINGS, Call, Main, UserRepository, task_text
from new_repository import begin_repository
from typer.testing import CliRunner
from user_isolation import isolate_user_settings

from flows.cli.app import app


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Isolate the tests from the settings and data of the user who runs them."""
    isolate_user_settings(monkeypatch, tmp_path)
    monkeypatch.setenv("COORDINATOR_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def bare_repo(tmp_path: Path) -> UserRepository:
    """A repository with one commit and no files of the coordinator."""
    top = tmp_path / "repository"
    begin_repository(top)
    repo = UserRepository(top)
    repo.commit({"README.md": "# Example\n"}, "Begin")
    return repo


@pytest.fixture
def repo(bare_repo: UserRepository) -> UserRepository:
    """A repository whose graph is base -> left, right -> top; base is completed."""
    texts = (
        task_text("base", status="completed"),
        task_text("left", depends_on=("base",), scope="broad"),
        task_text("right", depends_on=("base",)),
        task_text("top", depends_on=("left", "right")),
    )
    bare_repo.commit({"coordinator.yaml": SETTINGS, **bare_repo.tasks(*texts)}, "Plan")
    return bare_repo


@pytest.fixture(scope="session")
def command_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandHost]:
    """A process that forks for each command of all tests."""
    with open_command_host(tmp_path_factory.mktemp("host")) as host:
        yield host


@pytest.fixture
def call(command_host: CommandHost) -> Call:
    """Calls the command line as a user does: `call("plan", cwd=…)`; output is text, and any exit status is accepted.

    Python itself starts only with a variable for it, such as one that shows what is imported.
    """

    def run(
        *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        whole = {**os.environ, **(environment or {})}
        if not any(name.startswith("PYTHON") for name in environment or {}):
            return command_host.run(arguments, cwd, whole)
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=cwd,
            env={**own, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def main_here() -> Main:
    """Runs a command in this process, which is faster; returns its exit code and output."""

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*arguments], standalone_mode=False)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        code = result.return_value if isinstance(result.return_value, int) else result.exit_code
        return int(code), result.stdout

    return run
