"""Publishes the head by pushing it: one push at a time, what others push is followed, a refusal stops no work."""

import asyncio
from contextlib import suppress
from typing import assert_never

from tasks_lib.cleanup.remote_branches import describe_local_branch_behind
from tasks_lib.errors import CoordinatorError
from tasks_lib.git.publish.remote_branch import Pushed, Raced, Refused, Remote, Unreachable
from tasks_lib.landing.base_follower import BaseFollower
from tasks_lib.landing.publish_local import PAUSE_SECONDS, fast_forward_local_branch
from tasks_lib.landing.remote_watch import RemoteWatch, find_retry_pause
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.stopping import Interrupted

RACES = 3
"""How often in a row a push is made again at once because somebody else's came first."""
ROUNDS = 3
"""How often, at the end of a run, so many pushes are begun again after a pause."""


class RemotePublisher:
    """Pushes the head, and nothing else, whenever it has moved or others have pushed.

    `pending` says why the remote has not all of the head, "" if it has.
    """

    def __init__(self, run: Run, base_follower: BaseFollower, remote: Remote) -> None:
        self._run = run
        self._base_follower = base_follower
        self._remote = remote
        self._due = asyncio.Event()
        self._news = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._refusal = ""
        self._pause = 0.0
        self._failures = 0
        self._is_closing = False
        self._remote_watch = RemoteWatch(run, remote, self._tell_news)
        self.pending: str = ""

    def publish_soon(self) -> None:
        self._due.set()

    async def keep_publishing(self) -> None:
        """Push, and watch the remote, until cancelled."""
        await asyncio.gather(self._push_as_the_head_moves(), self._remote_watch.watch())

    async def publish_now(self) -> None:
        """Push the head as it is; why it waits, if it does, is in `pending` and said aloud when it changes."""
        async with self._one_at_a_time:
            try:
                reason = await self._publish()
            except CoordinatorError as error:
                reason = self._fail(str(error))
            if reason and reason != self.pending:
                self._run.board.say(self._describe(reason))
            self.pending = reason

    async def publish_when_idle(self) -> None:
        """Push, now that no node is running; what others pushed may take merges back, whose nodes then run again.

        Called again if that moves the head.
        """
        await self.publish_now()
        for _ in range(ROUNDS - 1):
            if not self._pause or self._run.stopping.is_requested:
                return
            if self._base_follower.moving_base_limit.is_reached:
                if await self._base_follower.follow_base_once_more():
                    return
                await self.publish_now()
                return
            await self._rest()
            await self.publish_now()

    async def finish(self) -> None:
        """Push what there is, as the last thing of a run; nothing that has landed is taken back any more."""
        self._is_closing = True
        await self.publish_now()
        await self._remote_watch.delete_landed_branches()

    def _tell_news(self) -> None:
        self._news.set()
        self.publish_soon()

    # Pushing.

    async def _push_as_the_head_moves(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            await self.publish_now()
            if self._pause:
                await self._rest()
                self.publish_soon()
            else:
                await asyncio.sleep(PAUSE_SECONDS)

    async def _rest(self) -> None:
        """Wait until there is something new of the remote, or the pause has gone by."""
        self._news.clear()
        with suppress(TimeoutError, Interrupted):
            await asyncio.wait_for(self._run.stopping.unless_stopped(self._news.wait(), ""), self._pause)

    def _succeed(self) -> str:
        self._pause, self._failures = 0.0, 0
        return ""

    def _fail(self, reason: str) -> str:
        """The remote did not answer; each time the next pause is twice as long."""
        self._failures += 1
        self._pause = find_retry_pause(self._run.settings.land.fetch_seconds, self._failures)
        return reason

    async def _publish(self) -> str:
        """Bring the head to the remote; returns why it is not there, "" if it is."""
        for _ in range(RACES):
            if reason := self._refusal or await self._follow():
                return reason
            if self._base_follower.is_behind:
                break
            found = await self._run.git.call(self._find_unpublished)
            if isinstance(found, str):
                await self._follow_here(found)
                return self._succeed()
            head, base = found
            with self._run.stopping.waiting_for(f"the push to {self._remote.name} (git will report whether it landed)"):
                result = await self._run.git.call(self._remote.push, head, base)
            match result:
                case Pushed():
                    self._base_follower.note_published(head)
                    await self._follow_here(head)
                    return self._succeed()
                case Refused(words):
                    self._refusal = f"{self._remote.name} refuses the push: {words}"
                    return self._refusal
                case Unreachable(reason):
                    return self._fail(f"{self._remote.name} does not answer: {reason}")
                case Raced():
                    await self._count_lost_push(base)
                    if self._base_follower.moving_base_limit.is_reached:
                        break
                case _:
                    assert_never(result)
        self._pause = self._run.settings.land.fetch_seconds
        return self._base_follower.moving_base_limit.explain()

    async def _count_lost_push(self, base: str) -> None:
        """Somebody else pushed first, onto `base`: fetch that, and count a lost round."""
        call = self._run.git.call
        with self._run.stopping.waiting_for(f"an answer from {self._remote.name}"):
            await call(self._remote.fetch)
        now = await call(self._run.git.head.base)
        await call(self._base_follower.moving_base_limit.count_lost_round, base, now)

    def _find_unpublished(self) -> tuple[str, str] | str:
        """The head and the base, or the base alone if it has all of the head."""
        head, base = self._run.git.head.current(), self._run.git.head.base()
        return base if self._run.git.head.contains(head, base) else (head, base)

    async def _follow(self) -> str:
        """Have our merges made again on what others pushed; returns why nothing may be pushed, "" if it may."""
        if self._is_closing:
            return await self._base_follower.find_rewritten()
        try:
            return await self._run.stopping.unless_stopped(self._base_follower.follow_base(), "")
        except Interrupted:
            return await self._base_follower.find_rewritten()

    async def _follow_here(self, commit: str) -> None:
        """The remote has `commit`: bring the local branch of that name along, if there is one and git accepts it."""
        run = self._run
        await run.git.call(run.git.head.finish)
        if await run.git.call(run.git.repository.branch_head, run.project.target) is None:
            return
        if reason := await run.git.call(fast_forward_local_branch, run, commit):
            self._remote_watch.say_once(describe_local_branch_behind(run.project, reason))

    def _describe(self, reason: str) -> str:
        where, ref = self._run.project.base_name, self._run.git.head.ref
        if self._refusal:
            return f"{where} has not been updated: {reason}. This run pushes nothing more; landed work waits at {ref}."
        return f"{where} has not been updated yet: {reason}. Landed work waits at {ref}."
