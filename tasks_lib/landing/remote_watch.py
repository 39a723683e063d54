"""Watches the remote during a run: detects what others push, and deletes the branches of landed nodes there."""

import asyncio
from collections.abc import Callable, Mapping

from tasks_lib.cleanup.remote_branches import sweep
from tasks_lib.errors import CoordinatorError, RemoteError
from tasks_lib.git.publish.remote_branch import Remote
from tasks_lib.runtime.run_context import Run

MAX_PAUSE_SECONDS = 300.0


def find_retry_pause(seconds: float, failures: int) -> float:
    """Return the seconds until a remote is asked again: `seconds`, doubled with each failure after the first.

    At most `MAX_PAUSE_SECONDS`, or `seconds` if that is longer.
    """
    return min(seconds * 2 ** max(0, min(failures, 30) - 1), max(seconds, MAX_PAUSE_SECONDS))


class RemoteWatch:
    """Watches the remote of one run; calls `on_news` when the base has moved there or the remote answers again."""

    def __init__(self, run: Run, remote: Remote, on_news: Callable[[], None]) -> None:
        self._run = run
        self._remote = remote
        self._on_news = on_news
        self._is_away = False
        self._said: set[str] = set()

    async def watch(self) -> None:
        """Check the remote repeatedly until cancelled."""
        failures = 0
        while True:
            try:
                await self._check_remote()
                failures = 0
            except CoordinatorError as error:
                failures += 1
                self._say_away(str(error))
            await asyncio.sleep(find_retry_pause(self._run.settings.land.fetch_seconds, failures))

    async def delete_landed_branches(self) -> None:
        """Delete the branches of landed nodes on the remote; call at the end of a run."""
        try:
            with self._run.stopping.waiting_for(f"an answer from {self._remote.name}"):
                await self._delete_landed(await self._run.git.call(self._remote.list_branches))
        except CoordinatorError as error:
            self.say_once(
                f"Could not clean up branches of landed nodes on the remote: {error}. The next run tries again."
            )

    def say_once(self, line: str) -> None:
        """Show a message about the remote, once per run."""
        if line not in self._said:
            self._said.add(line)
            self._run.board.say(line)

    async def _check_remote(self) -> None:
        run, remote = self._run, self._remote
        with run.stopping.waiting_for(f"an answer from {remote.name}"):
            branches = await run.git.call(remote.list_branches)
        if remote.target not in branches:
            raise RemoteError(f"{remote.name} no longer has a branch {remote.target}")
        if self._is_away:
            self._is_away = False
            self._on_news()
        if branches[remote.target] != await run.git.call(run.git.head.base):
            await run.git.call(remote.fetch, branches)
            self._on_news()
        await self._delete_landed(branches)

    def _say_away(self, reason: str) -> None:
        if not self._is_away:
            self._run.board.say(f"{reason}. The run retries; nodes continue to run and land locally.")
        self._is_away = True

    async def _delete_landed(self, branches: Mapping[str, str]) -> None:
        run = self._run
        for line in await run.git.call(sweep, self._remote, run.git.head, run.nodes.graph, run.settings, branches):
            self.say_once(line)
