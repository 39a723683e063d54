"""What is done only while the run's lock is held, for tests that are about something else."""

from collections.abc import Collection

from tasks_lib.git.repository_lock import RunLock
from tasks_lib.git.worktrees.lifecycle import Worktrees


def reconcile(worktrees: Worktrees, branches: Collection[str] = ()) -> list[str]:
    """`worktrees.reconcile` as a run does it at its start."""
    with RunLock(worktrees.repository.state_dir, "test") as held:
        return worktrees.reconcile(held, branches)
