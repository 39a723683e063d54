"""Limits how often a run follows a base that moves during every verification, whether the run or others move it.

A round is one verification, of work that is about to land or that is recreated on a base that moved. It is lost if the
base moved meanwhile. A round that is not lost is progress and resets the count, so a base to which others push often is
followed as long as work gets through between two pushes. After `MAX_IN_A_ROW` lost rounds the base is no longer
followed: work lands on the head as it is, publishing waits, and another round runs only after a pause that doubles each
time, and once more when no node is left to run. So whatever moves the base, a run ends, with publishing still pending.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager

from tasks_lib.git.commits.commit_history import CommitSummary, list_new_commits
from tasks_lib.git.repository import Repository
from tasks_lib.loop_limits import MAX_IN_A_ROW
from tasks_lib.text import escape_unprintable

FIRST_PAUSE_SECONDS = 30.0
MOST_PAUSE_SECONDS = 300.0
_READ = 20
_SAID = 3
_SLACK_SECONDS = 1.0
"""git stores commit times in whole seconds."""


def find_pause(times: int) -> float:
    """Return the seconds to wait after `times` failures in a row: 0 below `MAX_IN_A_ROW`, then doubling each time.

    At most `MOST_PAUSE_SECONDS`.
    """
    if times < MAX_IN_A_ROW:
        return 0.0
    return min(FIRST_PAUSE_SECONDS * 2 ** min(times - MAX_IN_A_ROW, 9), MOST_PAUSE_SECONDS)


class MovingBaseLimit:
    """Counts the rounds of one run. May be called from any thread, but only one at a time, as the queue does."""

    def __init__(self, repository: Repository, base_name: str, *, is_remote: bool) -> None:
        self._repository = repository
        self._base_name = base_name
        self._what = "others pushed first" if is_remote else f"{base_name} moved while work was being verified"
        self._movers: list[CommitSummary] = []
        self._verified: list[tuple[float, float]] = []
        self._seen: str = ""
        self._next_at: float = 0.0
        self._tried_at: int = -1
        self.lost_in_a_row: int = 0

    @property
    def is_reached(self) -> bool:
        """Whether so many rounds were lost in a row that the base is no longer followed immediately."""
        return self.lost_in_a_row >= MAX_IN_A_ROW

    @property
    def may_retry(self) -> bool:
        """Whether a round that only brings unpublished work onto the base may run now."""
        return not self.is_reached or time.monotonic() >= self._next_at

    def claim_last_try(self, landed: int) -> bool:
        """Allow one more round immediately, when nothing is running; once for each number of `landed` nodes."""
        is_new, self._tried_at = self._tried_at != landed, landed
        if is_new:
            self._next_at = 0.0
        return is_new or not self.is_reached

    @contextmanager
    def verifying(self) -> Generator[None]:
        """Record when a verification began and ended."""
        began = time.time()
        try:
            yield
        finally:
            self._verified = [*self._verified, (began, time.time())][-_READ:]

    def reset_rounds(self) -> None:
        """Reset the count; call when work has landed or was published before the base moved again."""
        self.lost_in_a_row, self._next_at, self._movers = 0, 0.0, []

    def count_lost_round(self, before: str, after: str) -> None:
        """Count a lost round, in which the base moved from the commit `before` to `after`; each move counts once."""
        if before == after or after == self._seen:
            return
        self._seen = after
        if not self.is_reached:  # Afterwards the explanation stays the same, so that it is shown only once.
            new = list_new_commits(self._repository.git, before, after, _READ)
            known = {one.id: one for one in (*self._movers, *new)}
            self._movers = list(known.values())
        self.lost_in_a_row += 1
        self._next_at = time.monotonic() + find_pause(self.lost_in_a_row)

    def explain(self) -> str:
        """Explain in one sentence why publishing waits, and what moves the base."""
        often = f"{self._what}, {min(self.lost_in_a_row, MAX_IN_A_ROW)} times in a row"
        if not self._movers:
            return often
        told = ", ".join(_describe(one) for one in self._movers[-_SAID:])
        if all(self._came_in_verify(one) for one in self._movers):
            advice = (
                "; all of them were made while verify ran: if verify or a program it starts makes them, change that"
            )
        else:
            advice = "; verify takes longer than the time between these commits"
        return f"{often}: {self._base_name} was moved by {told}{advice}"

    def _came_in_verify(self, mover: CommitSummary) -> bool:
        at = mover.committed_at
        return any(began - _SLACK_SECONDS <= at <= ended + _SLACK_SECONDS for began, ended in self._verified)


def _describe(commit: CommitSummary) -> str:
    return f'{commit.id} "{escape_unprintable(commit.subject)}" by {escape_unprintable(commit.author)}'
