"""Publishes the head by pushing it, one push at a time; follows what others push, and a refusal stops no node."""

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
"""How many pushes are tried in a row, without a pause, when others push first."""
ROUNDS = 3
"""How many times, at the end of a run, up to `RACES` pushes are tried, with a pause in between."""


class RemotePublisher:
    """Pushes the head, and nothing else, whenever it has moved or others have pushed.

    `pending` is why the remote does not have all of the head, "" if it does.
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
        """Push and watch the remote until cancelled."""
        await asyncio.gather(self._push_as_the_head_moves(), self._remote_watch.watch())

    async def publish_now(self) -> None:
        """Push the current head; if that has to wait, set `pending` to the reason and show it if it is new."""
        async with self._one_at_a_time:
            try:
                reason = await self._publish()
            except CoordinatorError as error:
                reason = self._fail(str(error))
            if reason and reason != self.pending:
                self._run.board.say(self._describe(reason))
            self.pending = reason

    async def publish_when_idle(self) -> None:
        """Push when no node is running; following what others pushed may take back merges, whose nodes then run again.

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
        """Push what has landed, as the last step of a run; from now on no merge is taken back."""
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
        """Wait until there is news from the remote, the pause is over, or the run is stopped."""
        self._news.clear()
        with suppress(TimeoutError, Interrupted):
            async with asyncio.timeout(self._pause):
                await self._run.stopping.unless_stopped(self._news.wait(), "")

    def _succeed(self) -> str:
        self._pause, self._failures = 0.0, 0
        return ""

    def _fail(self, reason: str) -> str:
        """Count a failed attempt to reach the remote, which doubles the next pause up to a maximum; return `reason`."""
        self._failures += 1
        self._pause = find_retry_pause(self._run.settings.land.fetch_seconds, self._failures)
        return reason

    async def _publish(self) -> str:
        """Push the head to the remote; return why it is not there, "" if it is."""
        stuck = ""
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
                    self._tell_missing(result)
                    self._base_follower.note_published(head)
                    await self._follow_here(head)
                    return self._succeed()
                case Refused(words):
                    self._refusal = f"{self._remote.name} refuses the push: {words}"
                    return self._refusal
                case Unreachable(reason):
                    return self._fail(f"{self._remote.name} does not answer: {reason}")
                case Raced(words):
                    stuck = "" if await self._is_moved(base) else words
                    if self._base_follower.moving_base_limit.is_reached:
                        break
                case _:
                    assert_never(result)
        return self._explain_wait(stuck)

    def _tell_missing(self, pushed: Pushed) -> None:
        for line in pushed.describe_missing(self._remote.name):
            self._remote_watch.say_once(line)

    def _explain_wait(self, stuck: str) -> str:
        """Return why publishing waits after `RACES` pushes; `stuck` are the words of one that nobody overtook."""
        if stuck:  # A lock that a killed push has left on the server looks like another push in progress.
            return self._fail(f"{self._remote.name} does not take the push, although nobody pushed first: {stuck}")
        self._pause = self._run.settings.land.fetch_seconds
        return self._base_follower.moving_base_limit.explain()

    async def _is_moved(self, base: str) -> bool:
        """Fetch what somebody else may have pushed first onto `base`, and count a lost round if the base has moved."""
        call = self._run.git.call
        with self._run.stopping.waiting_for(f"an answer from {self._remote.name}"):
            await call(self._remote.fetch)
        now = await call(self._run.git.head.base)
        await call(self._base_follower.moving_base_limit.count_lost_round, base, now)
        return now != base

    def _find_unpublished(self) -> tuple[str, str] | str:
        """Return the head and the base, or only the base if it contains the head."""
        head, base = self._run.git.head.current(), self._run.git.head.base()
        return base if self._run.git.head.contains(head, base) else (head, base)

    async def _follow(self) -> str:
        """Recreate the unpublished merges on what others pushed; return why nothing may be pushed, "" if it may."""
        if self._is_closing:
            return await self._base_follower.find_rewritten()
        try:
            return await self._run.stopping.unless_stopped(self._base_follower.follow_base(), "")
        except Interrupted:
            return await self._base_follower.find_rewritten()

    async def _follow_here(self, commit: str) -> None:
        """Fast-forward the local target branch to `commit`, which the remote has, if it exists and git accepts it."""
        run = self._run
        await run.git.call(run.git.head.finish)
        if await run.git.call(run.git.repository.branch_head, run.project.target) is None:
            return
        if reason := await run.git.call(fast_forward_local_branch, run, commit):
            self._remote_watch.say_once(describe_local_branch_behind(run.project, reason))

    def _describe(self, reason: str) -> str:
        where, ref = self._run.project.base_name, self._run.git.head.refs.queue_ref
        reason = reason.rstrip(".")
        if self._refusal:
            return f"{where} has not been updated: {reason}. This run pushes nothing more; landed work waits at {ref}."
        return f"{where} has not been updated yet: {reason}. Landed work waits at {ref}."
