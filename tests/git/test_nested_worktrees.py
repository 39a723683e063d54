"""Nested worktrees are moved out whole, even if that is interrupted and repeated."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from run_locks import reconcile

from tasks_lib.git.kept.snapshots import list_kept
from tasks_lib.git.kept.stashes import list_stashes
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import admin_lock
from tasks_lib.git.runner import Git
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees
from tasks_lib.git.worktrees.nested_worktrees import NestedRemover, find_foreign, find_nested


@pytest.fixture
def worktree(repository: Repository) -> Worktree:
    head = repository.branch_head("main")
    assert head
    return Worktrees(repository).open_branch("feat/a", head)


def make_inside(worktree: Worktree) -> Path:
    """Make a worktree in an ignored folder, with a commit that only it references and an uncommitted file."""
    place = worktree.path / "build" / "sub"
    worktree.git.run("worktree", "add", "--quiet", "--detach", str(place))
    Git(place).run("commit", "--quiet", "--allow-empty", "--message", "Inner")
    (place / "loose.txt").write_text("loose\n")
    return place


def make_keeper(repository: Repository) -> NestedRemover:
    return NestedRemover(repository, lambda: admin_lock(repository), (), lambda _: None)


@contextmanager
def killed() -> Generator[None]:
    raise KeyboardInterrupt
    yield


def test_kill_before_it_is_removed_keeps_it_once_all_the_same(repository: Repository, worktree: Worktree) -> None:
    place = make_inside(worktree)
    with pytest.raises(KeyboardInterrupt):
        NestedRemover(repository, killed, (), lambda _: None).take_out(worktree, "a")
    assert place.exists()
    assert [kept.ref for kept in list_kept(repository)] == ["refs/coordinator/kept/a/1"]
    make_keeper(repository).take_out(worktree, "a")
    assert not place.exists()
    assert find_nested(repository, worktree.path) == []
    assert [kept.ref for kept in list_kept(repository)] == ["refs/coordinator/kept/a/1"]


def test_kill_between_the_directory_and_the_entry_is_put_right_by_the_next_run(
    repository: Repository, worktree: Worktree
) -> None:
    place = make_inside(worktree)
    with pytest.raises(KeyboardInterrupt):
        NestedRemover(repository, killed, (), lambda _: None).take_out(worktree, "feat/a")
    trash = repository.worktrees_dir / ".trash"
    trash.mkdir()
    place.rename(trash / "sub-1")
    lines = reconcile(Worktrees(repository), ["feat/a"])
    assert [line for line in lines if "The worktree build/sub" in line]
    assert not trash.exists()
    assert find_nested(repository, worktree.path) == []
    (kept,) = list_kept(repository)
    assert repository.git.text("show", f"{kept.ref}:loose.txt") == "loose"


def test_worktree_that_is_removed_takes_along_nothing_that_is_lost(repository: Repository, worktree: Worktree) -> None:
    """No caller can forget to move them out first: every removal and every return to the pool does it."""
    make_inside(worktree)
    told: list[str] = []
    Worktrees(repository, say=told.append).remove(worktree)
    assert [kept.label for kept in list_kept(repository)] == ["feat-a"]
    assert repository.git.text("worktree", "list", "--porcelain").count("worktree ") == 1
    assert len(told) == 1


def test_only_what_is_neither_ours_nor_inside_is_a_persons(repository: Repository, worktree: Worktree) -> None:
    make_inside(worktree)
    assert find_foreign(repository) == []
    mine = repository.top.parent / "mine"
    repository.git.run("worktree", "add", "--quiet", "--detach", str(mine))
    assert [entry.path for entry in find_foreign(repository)] == [mine]
    reconcile(Worktrees(repository), ["feat/a"])
    assert [entry.path for entry in find_foreign(repository)] == [mine]
    assert mine.is_dir()


def test_stash_stays_in_the_list_when_a_worktree_is_only_removed(repository: Repository, worktree: Worktree) -> None:
    (worktree.path / "README.md").write_text("changed\n")
    worktree.git.run("stash", "--quiet")
    (stash,) = list_stashes(repository.common_dir)
    assert stash.branch == "feat/a"
    Worktrees(repository).remove(worktree)
    assert list_stashes(repository.common_dir) == [stash]


def test_entry_that_leads_out_through_a_link_reads_and_moves_nothing_there(
    repository: Repository, worktree: Worktree, tmp_path: Path
) -> None:
    """An agent can write anything into git's worktree entries."""
    place = make_inside(worktree)
    precious = tmp_path / "precious"
    precious.mkdir()
    place.rename(precious / "sub")
    (worktree.path / "build" / "link").symlink_to(precious)
    admin = next(entry.admin for entry in find_nested(repository, worktree.path))
    (admin / "gitdir").write_text(f"{worktree.path}/build/link/sub/.git\n")
    make_keeper(repository).take_out(worktree, "a")
    assert (precious / "sub" / "loose.txt").read_text() == "loose\n"
    assert find_nested(repository, worktree.path) == []
    (kept,) = list_kept(repository)
    assert repository.git.text("log", "-n1", "--format=%s", kept.ref) == "Inner"
    assert "loose.txt" not in repository.git.text("ls-tree", "--name-only", kept.ref)
