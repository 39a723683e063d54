"""How coordinator's Python processes start: what they read from their directory and environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import coordinator_start
from coordinator_start import clean, list_homes, needs_another_start
from tasks_lib.errors import AgentError, SystemFailure
from tasks_lib.process.process_groups import run_group
from tasks_lib.process.program_lookup import drop_relative, find_program, require_program
from tasks_lib.process.python_command import python_command, python_environment

PROGRAM = Path(sys.executable).parent / "coordinator"
TRAP = "raise SystemExit('trap {name}')\n"


def set_traps(directory: Path, *names: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / f"{name}.py").write_text(TRAP.format(name=name))
    return directory


@pytest.mark.parametrize("entry", [".", "", "./", "{here}"])
def test_python_of_ours_imports_nothing_from_where_it_starts(tmp_path: Path, entry: str) -> None:
    here = set_traps(tmp_path / "here", "queue", "json", "sitecustomize", "usercustomize")
    hostile = {**os.environ, "PYTHONPATH": entry.format(here=here), "PYTHONSTARTUP": "queue.py", "PYTHONINSPECT": "1"}
    done = subprocess.run(
        python_command("-c", "import json, queue, sys; print(sys.path)"),
        cwd=here, env=hostile, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, str(here) in done.stdout) == (0, False), done.stderr


def test_environment_is_an_allow_list_with_absolute_places() -> None:
    environ = {
        "PATH": ".::/usr/bin:bin:/bin", "HOME": "/h", "LC_ALL": "C", "TMPDIR": "tmp", "TMP": "/t",
        "LD_LIBRARY_PATH": ".:/l:", "LD_PRELOAD": "/x.so", "HTTP_PROXY": "p", "PYTHONPATH": "/p", "PYTHONHOME": "/v",
        "prefect_api_key": "k", "PREFECT_PROFILE": "p", "UVICORN_PORT": "1", "OTEL_X": "1", "AWS_SECRET": "s",
    }  # fmt: skip
    assert python_environment(environ, {"PREFECT_HOME": "/d"}) == {
        "PATH": "/usr/bin:/bin", "HOME": "/h", "LC_ALL": "C", "TMP": "/t", "LD_LIBRARY_PATH": "/l", "PREFECT_HOME": "/d",
    }  # fmt: skip


def test_coordinator_that_is_found_by_pythonpath_is_found_by_its_children() -> None:
    home = str(Path(coordinator_start.__file__).parents[1])
    environ = {"PYTHONPATH": f".:{home}:/elsewhere"}
    assert list_homes(environ) == [home]
    assert python_environment(environ, {})["PYTHONPATH"] == home


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}, False),
        ({"PYTHON": "/usr/bin/python3", "PYTHON_VERSION": "3.13.0", "PYTHON_SHA256": "0f"}, False),
        ({"PYTHONPATH": ""}, False),
        ({"PYTHONPATH": "."}, True),
        ({"PYTHONPATH": "/elsewhere"}, True),
        ({"PYTHONINSPECT": "1"}, True),
        ({"PYTHONWARNINGS": "error"}, True),
        ({"PYTHONOPTIMIZE": "2"}, True),
    ],
)
def test_command_line_starts_again_where_variables_of_python_steer_it(
    environment: dict[str, str],
    expected: bool,
) -> None:
    assert needs_another_start(environment, is_ignored=False) is expected
    assert not needs_another_start(environment, is_ignored=True)


def test_current_directory_is_taken_off_the_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert clean(["", ".", str(tmp_path), "lib", "/usr/lib"]) == ["/usr/lib"]
    library = str(Path(os.__file__).parent)
    monkeypatch.chdir(library)
    assert clean([library]) == [library]


@pytest.mark.parametrize("command", [[str(PROGRAM)], [sys.executable, "-m", "flows.cli"]], ids=["script", "module"])
@pytest.mark.parametrize("variables", [{}, {"PYTHONPATH": "."}, {"PYTHONWARNINGS": "error", "PYTHONINSPECT": "1"}])
def test_command_line_works_among_modules_that_are_named_as_those_it_needs(
    tmp_path: Path, command: list[str], variables: dict[str, str]
) -> None:
    here = set_traps(tmp_path / "here", "queue", "typer", "click", "rich", "httpx", "dataclasses", "json", "platform")
    if command[0] == str(PROGRAM):
        set_traps(here, "flows", "tasks_lib")  # With `-m` the caller asks for modules from the current directory.
    done = subprocess.run(
        [*command, "notify", "it's", "$this"], cwd=here, env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "is not in a worktree" in done.stderr, "trap" in done.stderr) == (2, True, False), (
        done.stderr
    )


def test_programs_are_looked_for_in_absolute_places_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for search_path in (".", "", ":/usr/bin", "/usr/bin:", "./:/usr/bin", "../x"):
        assert find_program("tool", search_path) is None
    assert find_program("tool", f".:{tmp_path}") == str(tool)
    assert drop_relative(".:") == "/usr/local/bin:/usr/bin:/bin"
    with pytest.raises(SystemFailure, match="`tool` is not on PATH"):
        require_program("tool")


async def test_wall_around_an_agent_is_not_the_worktrees_own(tmp_path: Path) -> None:
    wall = tmp_path / "worktree" / "bwrap-for-test"
    wall.parent.mkdir()
    wall.write_text("#!/bin/sh\n")
    wall.chmod(0o755)
    with pytest.raises(AgentError, match="`bwrap-for-test` was not found on PATH"):
        await run_group(
            ["bwrap-for-test"], cwd=wall.parent, environment={"PATH": ".::/usr/bin"}, log=tmp_path / "log",
            timeout_seconds=60, stop_seconds=1,
        )  # fmt: skip
