"""Makes a worktree what it is on another machine: its branch at the same commit, with the same uncommitted files."""

from collections.abc import Sequence

from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.remote_sessions.state_commits import SessionState
from tasks_lib.git.worktree_admin import Worktree

MOVED = "coordinator: the state of a session on another machine"


def apply_state(worktree: Worktree, isolation: IsolatedGit, state: SessionState, keep: Sequence[str] = ()) -> None:
    """Move the branch that is checked out in `worktree` to the one in `state`, and make its files the same.

    Untracked files that `state` does not contain are removed, except the paths `keep` and ignored files. Doing it
    again, for instance after a kill, changes nothing more.
    """
    git = isolation.checking_out(worktree)
    excluded = [word for path in keep for word in ("--exclude", f"/{path}")]
    # From here on a kill leaves a difference to the branch, which the repetition removes.
    worktree.git.run("update-ref", "-m", MOVED, "HEAD", state.branch)
    git.run("clean", "--quiet", "-ffd", *excluded)
    git.run("read-tree", "--reset", "-u", state.uncommitted or state.branch)
    if state.uncommitted:
        git.run("read-tree", state.branch)
        git.run("update-index", "-q", "--refresh", accept=(0, 1))
