"""Damage by an agent to its worktree or the shared git directory never misleads the coordinator's own git."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import read_state
from tasks_lib.git.repository import Repository
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees


@pytest.fixture
def worktree(repository: Repository) -> Worktree:
    return Worktrees(repository).open_branch("feat/a", repository.git.text("rev-parse", "main"))


def test_worktree_that_is_gone_is_an_error_and_not_the_directory_that_we_are_in(
    repository: Repository, worktree: Worktree, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository.top / "README.md").write_text("A person is at work here.\n")
    monkeypatch.chdir(repository.top)
    shutil.rmtree(worktree.path)
    with pytest.raises(GitError, match="does not exist"):
        worktree.git.run("checkout", "--force", "--detach", "main")
    assert (repository.top / "README.md").read_text() == "A person is at work here.\n"


@pytest.mark.parametrize("way", ["gone", "own", "elsewhere"])
def test_worktree_without_its_link_is_not_taken_for_the_checkout_around_it(
    repository: Repository, worktree: Worktree, way: str
) -> None:
    (repository.top / "README.md").write_text("A person is at work here.\n")
    link = worktree.path / ".git"
    link.unlink()
    if way == "own":
        repository.git.run("init", "--quiet", str(worktree.path))
    elif way == "elsewhere":
        link.symlink_to(repository.common_dir)
    worktree.git.run("checkout", "--quiet", "--force", "--detach", "main")
    worktree.git.run("clean", "-ffdxq")
    assert (repository.top / "README.md").read_text() == "A person is at work here.\n"
    assert repository.git.text("symbolic-ref", "HEAD") == "refs/heads/main"
    assert read_state(worktree.git).branch == ""


def test_programs_and_histories_of_an_agents_are_no_part_of_our_git(
    repository: Repository, worktree: Worktree, tmp_path: Path
) -> None:
    first = repository.git.text("rev-parse", "main")
    spy = tmp_path / "spy"
    spy.write_text(f"#!/bin/sh\necho started >> {tmp_path}/started\n")
    spy.chmod(0o755)
    repository.git.run("config", "core.fsmonitor", str(spy))
    repository.git.run("config", "core.hooksPath", str(tmp_path))
    other = repository.git.run("commit-tree", "main^{tree}", "-m", "Other").text
    repository.git.run("update-ref", f"refs/replace/{first}", other)
    (repository.common_dir / "info").mkdir(exist_ok=True)
    (repository.common_dir / "info" / "grafts").write_text(f"{first} {other}\n")
    read_state(worktree.git)
    assert repository.git.text("rev-list", "main").split() == [first]
    assert not (tmp_path / "started").exists()


def make_deep(place: Path) -> None:
    """Make directories nested so deeply that the innermost path exceeds PATH_MAX and `shutil.rmtree` gives up."""
    place.mkdir()
    make = "import os, sys; os.chdir(sys.argv[1])\nfor _ in range(1200): os.mkdir('dddd'); os.chdir('dddd')"
    subprocess.run([sys.executable, "-c", make, str(place)], check=True)


def test_worktree_that_is_too_deep_is_removed(repository: Repository, worktree: Worktree) -> None:
    make_deep(worktree.path / "deep")
    worktrees = Worktrees(repository)
    worktrees.release(worktree)
    again = worktrees.open_branch("feat/b", repository.git.text("rev-parse", "main"))
    assert not (again.path / "deep").exists()
    worktrees.remove(again)
    worktrees.close()
    assert not repository.worktrees_dir.exists()


def test_pipe_in_the_place_of_a_setup_key_holds_nobody_up(repository: Repository) -> None:
    worktrees = Worktrees(repository, keep=["modules"], setup_key=["package-lock.json"])
    worktree = worktrees.open_branch("feat/a", repository.git.text("rev-parse", "main"))
    os.mkfifo(worktree.path / "package-lock.json")
    worktrees.release(worktree)
    again = worktrees.open_branch("feat/b", repository.git.text("rev-parse", "main"))
    assert again.path == repository.worktrees_dir / "feat/b"
