"""Bounds how often a run follows a base that moves whenever it has verified: because of the run, or of quick others.

A round is one verification, of work that is to land or that is made again on a base that moved. It is lost if the base
moved meanwhile. A round that is not lost is progress and resets the count, so others who push often are followed for as
long as work gets through between two of their pushes. After `MAX_IN_A_ROW` lost rounds the base is no longer followed:
work lands on the head as it is, publishing waits, and another round is run only after a pause that doubles each time,
and once when no node is left to run. So whatever moves the base, a run ends, with a publication pending.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager

from tasks_lib.git.commits.commit_history import CommitSummary, list_new_commits
from tasks_lib.git.runner import Git
from tasks_lib.loop_limits import MAX_IN_A_ROW
from tasks_lib.text import escape_unprintable

FIRST_PAUSE_SECONDS = 30.0
MOST_PAUSE_SECONDS = 300.0
_READ = 20
_SAID = 3
_SLACK_SECONDS = 1.0
"""git writes down whole seconds."""


def find_pause(times: int) -> float:
    """Seconds to wait before what failed `times` in a row is tried again: at first none, then longer and longer."""
    if times < MAX_IN_A_ROW:
        return 0.0
    return min(FIRST_PAUSE_SECONDS * 2 ** min(times - MAX_IN_A_ROW, 9), MOST_PAUSE_SECONDS)


class MovingBaseLimit:
    """The rounds of one run. Safe to call from threads one at a time, as the queue does."""

    def __init__(self, git: Git, base_name: str, *, is_remote: bool) -> None:
        self._git = git
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
        """Whether so many rounds were lost in a row that the base is followed no more at once."""
        return self.lost_in_a_row >= MAX_IN_A_ROW

    @property
    def may_retry(self) -> bool:
        """Whether a round may be run now that only brings unpublished work onto the base."""
        return not self.is_reached or time.monotonic() >= self._next_at

    def claim_last_try(self, landed: int) -> bool:
        """Allow one more round at once, now that nothing is at work; once for each state of `landed` nodes."""
        is_new, self._tried_at = self._tried_at != landed, landed
        if is_new:
            self._next_at = 0.0
        return is_new or not self.is_reached

    @contextmanager
    def verifying(self) -> Generator[None]:
        """Remember when a verification went on."""
        began = time.time()
        try:
            yield
        finally:
            self._verified = [*self._verified, (began, time.time())][-_READ:]

    def reset_rounds(self) -> None:
        """Work landed, or was published, before the base moved again."""
        self.lost_in_a_row, self._next_at, self._movers = 0, 0.0, []

    def count_lost_round(self, before: str, after: str) -> None:
        """The base moved from the commit `before` to `after` in a round, which came to nothing."""
        if before == after or after == self._seen:
            return
        self._seen = after
        if not self.is_reached:  # What is said then stays the same, so that it is said once.
            new = list_new_commits(self._git, before, after, _READ)
            known = {one.id: one for one in (*self._movers, *new)}
            self._movers = list(known.values())
        self.lost_in_a_row += 1
        self._next_at = time.monotonic() + find_pause(self.lost_in_a_row)

    def explain(self) -> str:
        """Why publishing waits, and what moves the base: one sentence."""
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
