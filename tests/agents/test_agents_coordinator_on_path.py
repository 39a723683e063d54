"""The `coordinator` program that agents find on their PATH."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import flows
from tasks_lib.agents.coordinator_on_path import write_launcher
from tasks_lib.process.allowed_variables import lead_path
from tasks_lib.process.python_command import python_command, python_options


def make_decoys(directory: Path) -> Path:
    """A worktree with modules named like coordinator's own."""
    for package in ("flows", "tasks_lib"):
        (directory / package).mkdir(parents=True)
        (directory / package / "__init__.py").write_text("print('decoy')\n")
        (directory / package / "cli.py").write_text("print('decoy')\n")
    return directory


def test_the_directory_holds_only_an_executable_coordinator(tmp_path: Path) -> None:
    directory = write_launcher(tmp_path / "bin", sys.executable)
    assert [path.name for path in directory.iterdir()] == ["coordinator"]
    assert [path.name for path in tmp_path.iterdir()] == ["bin"]
    assert shutil.which("coordinator", path=lead_path({"PATH": "/bin"}, str(directory))["PATH"]) == str(
        directory / "coordinator"
    )


def test_writing_it_again_changes_nothing_and_a_changed_one_is_mended(tmp_path: Path) -> None:
    path = write_launcher(tmp_path / "bin", sys.executable) / "coordinator"
    before = path.stat()
    write_launcher(tmp_path / "bin", sys.executable)
    assert path.stat().st_ino == before.st_ino
    text = path.read_text()
    path.write_text("echo not ours\n")
    path.chmod(0o644)
    write_launcher(tmp_path / "bin", sys.executable)
    assert path.read_text() == text
    assert os.access(path, os.X_OK)


def test_arguments_and_a_path_with_spaces_and_quotes_arrive_unchanged(tmp_path: Path) -> None:
    python = tmp_path / "it's a python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    directory = write_launcher(tmp_path / "bin", str(python))
    words = ["notify", "--level", "info", "two words", "$HOME 'quoted' *"]
    found = subprocess.run([directory / "coordinator", *words], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [*python_options(), "-m", "flows.cli", *words]


def test_the_modules_of_the_worktree_are_never_taken_for_ours(tmp_path: Path) -> None:
    worktree = make_decoys(tmp_path / "worktree")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(worktree)}
    code = "import flows, tasks_lib, tasks_lib.errors; print(flows.__file__)"
    found = subprocess.run(
        python_command("-c", code),
        cwd=worktree,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == flows.__file__
    plain = subprocess.run(
        [sys.executable, "-c", code], cwd=worktree, env=environment, capture_output=True, text=True, check=False
    )
    assert "decoy" in plain.stdout


def test_what_the_launcher_runs_is_ours_inside_such_a_worktree(tmp_path: Path) -> None:
    worktree = make_decoys(tmp_path / "worktree")
    directory = write_launcher(tmp_path / "bin", sys.executable)
    environment = {**lead_path(os.environ, str(directory)), "PYTHONPATH": str(worktree)}
    found = subprocess.run(
        ["coordinator", "--help"], cwd=worktree, env=environment, capture_output=True, text=True, check=False
    )
    assert "decoy" not in found.stdout
