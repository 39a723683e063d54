"""Publishes the newest head to the user's local branch during the run, and reports once why publishing waits."""

import asyncio

from tasks_lib.errors import CoordinatorError
from tasks_lib.git.publish.local_branch import Pending, publish
from tasks_lib.git.repository_lock import admin_lock
from tasks_lib.landing.base_follower import BaseFollower
from tasks_lib.runtime.run_context import Run

PAUSE_SECONDS = 1.0
"""A graph of quick nodes moves the head many times a second; the user's checkout need not follow each move."""


class LocalPublisher:
    """Fast-forwards the target whenever the head has moved; after a refusal, nodes continue and the next move retries.

    `pending` is why the target does not have all of the head, "" if it does.
    """

    def __init__(self, run: Run, base_follower: BaseFollower) -> None:
        self._run = run
        self._base_follower = base_follower
        self._due = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._published: str = ""
        self.pending: str = ""

    def publish_soon(self) -> None:
        self._due.set()

    async def keep_publishing(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self.publish_now()
            await asyncio.sleep(PAUSE_SECONDS)

    async def publish_now(self) -> None:
        """Publish the current head; if that has to wait, set `pending` to the reason and show it if it is new."""
        run = self._run
        async with self._one_at_a_time:
            try:
                reason = await run.git.call(self._publish)
            except CoordinatorError as error:
                reason = str(error)
            if reason and reason != self.pending:
                where, why = run.git.head.refs.queue_ref, reason.rstrip(".")
                run.board.say(f"{run.project.target} has not been updated yet: {why}. Landed work waits at {where}.")
            self.pending = reason

    async def publish_when_idle(self) -> None:
        """Follow a base past the limit once more and publish; call when no node is running.

        Called again if that moves the head.
        """
        if (
            self._base_follower.is_behind
            and not self._run.stopping.is_requested
            and not await self._base_follower.follow_base_once_more()
        ):
            await self.publish_now()

    async def finish(self) -> None:
        """Publish what has landed, as the last step of a run."""
        await self.publish_now()

    def _publish(self) -> str:
        """Publish the head; return why that waits, "" if the target has all of it. Call from one thread at a time."""
        run = self._run
        head, base = run.git.head.current(), run.git.head.base()
        if self._published and not run.git.head.contains(self._published, base):
            # The user has taken it back, and moving the branch forward again would undo that.
            return f"it was rewritten and no longer contains {self._published[:12]}, which had been published"
        if reason := fast_forward_local_branch(run, head):
            limit = self._base_follower.moving_base_limit
            return limit.explain() if limit.lost_in_a_row and not run.git.head.contains(base, head) else reason
        self._published = head
        run.git.head.finish()
        return ""


def fast_forward_local_branch(run: Run, commit: str) -> str:
    """Move the local target branch to `commit` if git accepts it; return why it stays, "" if it has the commit."""
    # Git would otherwise move the branch of a checkout that it no longer recognizes as one.
    if detour := run.shared_state.find_detour():
        return detour
    result = publish(run.git.repository.git, run.project.target, commit, admin_lock(run.git.repository))
    return result.reason if isinstance(result, Pending) else ""
