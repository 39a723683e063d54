"""A worktree without work of its own moves to the head as a whole or not at all; an interrupted move is undone."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tasks_lib.git.commits.branch_state import read_state
from tasks_lib.git.publish.interrupted_fast_forward import MOVING_NAME, Move
from tasks_lib.git.publish.worktree_fast_forward import fast_forward_worktree, find_state
from tasks_lib.git.repository import Repository
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees


@pytest.fixture
def worktree(repository: Repository) -> Worktree:
    head = repository.branch_head("main")
    assert head
    return Worktrees(repository).open_branch("feat/a", head)


def move_main(repository: Repository, files: dict[str, str]) -> str:
    for name, text in files.items():
        (repository.top / name).write_text(text)
    repository.git.run("add", "--all")
    repository.git.run("commit", "--quiet", "--message", "Go ahead")
    return repository.git.text("rev-parse", "HEAD")


def test_worktree_without_work_is_moved_with_its_branch(repository: Repository, worktree: Worktree) -> None:
    (worktree.path / "build").mkdir()
    (worktree.path / "build" / "cache").write_text("ignored\n")
    head = move_main(repository, {"README.md": "# New\n", "new.txt": "new\n"})
    assert fast_forward_worktree(worktree, read_state(worktree.git), head)
    state = read_state(worktree.git)
    assert (state.branch, state.commit, state.dirty) == ("feat/a", head, ())
    assert (worktree.path / "new.txt").read_text() == "new\n"
    assert (worktree.path / "build" / "cache").exists()
    assert not (worktree.git_dir / "coordinator" / MOVING_NAME).exists()


def test_kill_in_the_middle_is_put_back_and_then_it_is_moved(repository: Repository, worktree: Worktree) -> None:
    state = read_state(worktree.git)
    head = move_main(repository, {"README.md": "# New\n", "new.txt": "new\n", "more.txt": "more\n"})
    move = Move("refs/heads/feat/a", state.commit, head, str(worktree.git_dir), str(worktree.path))
    (worktree.git_dir / "coordinator").mkdir()
    (worktree.git_dir / "coordinator" / MOVING_NAME).write_text(json.dumps(asdict(move)))
    # Git writes the files one by one, then the index, then moves the branch.
    (worktree.path / "README.md").write_text("# New\n")
    (worktree.path / "new.txt").write_text("ne")
    (worktree.git_dir / "index.lock").touch()
    found = find_state(worktree)
    assert found is not None
    assert found == state
    assert fast_forward_worktree(worktree, found, head)
    assert read_state(worktree.git).dirty == ()
    assert (worktree.path / "new.txt").read_text() == "new\n"


def test_filter_that_fails_midway_leaves_all_as_it_was(
    repository: Repository, worktree: Worktree, tmp_path: Path
) -> None:
    state = read_state(worktree.git)
    head = move_main(repository, {".gitattributes": "z.bin filter=broken\n", "new.txt": "new\n", "z.bin": "z\n"})
    repository.git.run("config", "filter.broken.smudge", "false")
    repository.git.run("config", "filter.broken.required", "true")
    assert not fast_forward_worktree(worktree, state, head)
    assert read_state(worktree.git) == state
