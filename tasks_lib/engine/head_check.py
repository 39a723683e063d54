"""Verifies the head of a run once, while its first sessions work, so that a red one costs no further sessions."""

import asyncio
import logging

from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.commits.commit_messages import VERIFIED
from tasks_lib.landing.merge_queue import MergeQueue
from tasks_lib.runtime.run_context import Run
from tasks_lib.settings.schema import digest_verify

_log = logging.getLogger(__name__)


class HeadCheck:
    """The check of one run. It is not needed where an earlier run verified the head in the same way."""

    def __init__(self, run: Run, merge_queue: MergeQueue) -> None:
        self._run = run
        self._merge_queue = merge_queue
        self._job: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin the check, which is made once; call when a session starts."""
        if self._job is None and self._run.settings.verify:
            self._job = asyncio.create_task(self._check())

    async def end(self) -> None:
        """End the check, if it is still going on; call when no session is in progress."""
        if self._job and not self._job.done():
            self._job.cancel()
            await asyncio.wait({self._job})

    async def _check(self) -> None:
        head = self._run.git.head.last_seen()
        try:
            if not await self._run.git.call(self._is_verified, head):
                await self._merge_queue.verify_head()
        except Exception:  # What lands is verified anyway, and says what is wrong.
            _log.exception("the head could not be verified while sessions start")

    def _is_verified(self, head: str) -> bool:
        """Whether the commit `head` says that it was verified by the lines of today's `verify`. Blocking."""
        trailers = read_commit(self._run.git.objects, head).trailers
        return trailers.get(VERIFIED) == digest_verify(self._run.settings)
