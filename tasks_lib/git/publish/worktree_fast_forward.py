"""Fast-forwards a worktree whose branch has no commits of its own to the head, completely or not at all."""

from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import BranchState, read_state
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.publish.checkout_fast_forward import FAST_FORWARD, IN_PROGRESS, REF_PATIENCE
from tasks_lib.git.publish.interrupted_fast_forward import (
    EVERY_STATUS,
    Move,
    record_before,
    remembered,
    repair_move,
    restore_checkout,
)
from tasks_lib.git.runner import Git
from tasks_lib.git.worktree_admin import Entry, Worktree


def fast_forward_worktree(worktree: Worktree, state: BranchState, head: str) -> bool:
    """Fast-forward a worktree whose state is `state` to the commit `head`; return whether it is there now.

    Moves it only if it has no work and no ignored file is in the way. After a kill, `find_state` restores it.
    """
    git, git_dir = worktree.git, worktree.git_dir
    if holds_work(git, git_dir, state, head):
        return False
    if state.commit == head:
        return True
    before = record_before(git, git_dir, state.commit, head)
    original = None if before.original is None else before.original.decode("utf-8", "replace")
    move = Move(f"refs/heads/{state.branch}", state.commit, head, str(git_dir), str(worktree.path), original)
    with remembered(git_dir, move):
        result = git.run(*REF_PATIENCE, *FAST_FORWARD, head, accept=EVERY_STATUS)
        if result.status != 0:
            restore_checkout(git, git_dir, before, state.commit, head)
    return result.status == 0


def holds_work(git: Git, git_dir: Path, state: BranchState, head: str) -> bool:
    """Whether a worktree has anything that `head` has not: a commit, an uncommitted file, an operation in progress."""
    if state.dirty or not state.branch or any((git_dir / name).exists() for name in IN_PROGRESS):
        return True
    return state.commit != head and not is_ancestor(git, state.commit, head)


def holds_work_at(entry: Entry, head: str) -> bool:
    """As `holds_work`, for the worktree of `entry`; True if git cannot read it."""
    git = Git(entry.path, entry.admin)
    try:
        return holds_work(git, entry.admin, read_state(git), head)
    except GitError:
        return True


def find_state(worktree: Worktree) -> BranchState | None:
    """The state of a worktree to resume, after restoring an interrupted move; None if git cannot read it."""
    try:
        repair_move(worktree.git_dir)
        return read_state(worktree.git)
    except GitError:
        return None
