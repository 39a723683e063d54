"""Reads whether a run starts, is in progress, has ended or was killed, from its locks and its own record together."""

from dataclasses import dataclass
from pathlib import Path

from tasks_lib.git.repository_lock import Holder, is_starting, read_holder
from tasks_lib.runtime.status_board import VIEW_NAME, RunView, read_view


@dataclass(frozen=True, slots=True)
class LastRun:
    """The current run of a repository, or else the last one, at one moment.

    `view` is what it wrote, None if no run has written anything yet, or the current one has not. `holder` holds the run
    lock; with `is_starting`, a run has not taken it yet.
    """

    view: RunView | None
    holder: Holder | None
    is_starting: bool = False

    @property
    def is_alive(self) -> bool:
        """Whether a run is in progress, or about to be."""
        return self.holder is not None or self.is_starting

    @property
    def was_killed(self) -> bool:
        """Whether the last run was killed or crashed, so that it never recorded how it ended."""
        return self.view is not None and not self.view.ended and self.holder is None


def read_last_run(state_dir: Path) -> LastRun:
    """Read the current or last run. Raises InputError if the lock cannot be used.

    A run tells of its start until it holds the lock, and records its end before it releases the lock. So each is read
    before the one that takes its place; and a record without an end means a kill only if the lock was free after the
    record had been there, since a run may begin in between.
    """
    starts = is_starting(state_dir)
    found = _read(state_dir)
    while found.was_killed:
        again = _read(state_dir)
        if again.was_killed and again.view and found.view and again.view.run == found.view.run:
            break
        found = again
    return LastRun(found.view, found.holder, starts and found.holder is None)


def _read(state_dir: Path) -> LastRun:
    holder = read_holder(state_dir)
    view = read_view(state_dir / VIEW_NAME)
    return LastRun(None if holder and view and holder.run != view.run else view, holder)
