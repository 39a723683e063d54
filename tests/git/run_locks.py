"""Operations that need the run lock, for tests that are about something else."""

from collections.abc import Collection

from tasks_lib.git.repository_lock import RunLock
from tasks_lib.git.worktrees.lifecycle import Worktrees


def reconcile(worktrees: Worktrees, branches: Collection[str] = ()) -> list[str]:
    """Call `worktrees.reconcile` under the run lock, as a run does when it starts."""
    with RunLock(worktrees.repository.state_dir, "test") as held:
        return worktrees.reconcile(held, branches)
