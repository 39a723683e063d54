"""Decides how many servers a run has and which session uses which, and restarts servers that die."""

import asyncio
import shlex
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from tasks_lib.agents.opencode.config.shell_environments import Shells, write_private
from tasks_lib.agents.opencode.servers.server_interface import Address
from tasks_lib.agents.opencode.servers.server_process import Server, ServerPlan
from tasks_lib.errors import AgentError

SESSIONS_PER_SERVER = 25
"""Active sessions per server; with more of them it needs so much memory that none of them makes progress."""
BOOTS = 2
"""Sessions that may begin at the same time, over all servers."""
STARTS = 5
"""How often a server may be restarted without having been healthy for `HEALTHY_SECONDS`."""
HEALTHY_SECONDS = 60.0


class _PooledServer:
    """One server, started by the first caller that needs it, while the others wait for the same start."""

    def __init__(self, plan: ServerPlan, number: int, password: str, well_seconds: float) -> None:
        self.server: Server = Server(plan, number, password)
        self.taken: int = 0
        self._well_seconds: float = well_seconds
        self._starting: asyncio.Task[Address] | None = None
        self._started: float = 0.0
        self._in_a_row: int = 0
        self._is_closed: bool = False

    async def address(self) -> Address:
        if found := self.server.address:
            return found
        if self._is_closed:
            raise AgentError("opencode's server was stopped, because the run is ending")
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(lambda done: done.cancelled() or done.exception())
        # A cancelled caller must not cancel the start, which others wait for too.
        await asyncio.wait({self._starting})
        if self._starting.cancelled():
            raise AgentError("opencode's server was stopped, because the run is ending")
        return self._starting.result()

    async def _start(self) -> Address:
        was_well = self._started and time.monotonic() - self._started > self._well_seconds
        self._in_a_row = 1 if was_well or not self._in_a_row else self._in_a_row + 1
        if self._in_a_row > STARTS:
            raise AgentError(
                f"opencode's server died {STARTS} times in a row within {self._well_seconds:g} seconds of its start; "
                f"see its log: {self.server.log}"
            )
        self._started = time.monotonic()
        return await self.server.start()

    async def close(self) -> None:
        self._is_closed = True
        if self._starting and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait({self._starting})
        await self.server.stop()


class PooledServerLease:
    """A session's place on a server of the pool."""

    def __init__(self, keeper: _PooledServer, boots: asyncio.Semaphore) -> None:
        self._keeper: _PooledServer = keeper
        self._boots: asyncio.Semaphore = boots
        self._is_left: bool = False
        keeper.taken += 1

    @property
    def number(self) -> int:
        """The number of the server."""
        return self._keeper.server.number

    async def address(self) -> Address:
        """Return the server's address once it is healthy; raises AgentError if it cannot be started."""
        return await self._keeper.address()

    async def wait_until_dead(self, generation: int) -> None:
        """Return once that start of the server has ended, along with every shell that it had opened."""
        await self._keeper.server.wait_until_dead(generation)

    @asynccontextmanager
    async def boot(self) -> AsyncGenerator[None]:
        """Enter while a session begins; only a few may at the same time."""
        async with self._boots:
            yield

    def leave(self) -> None:
        """Release the lease; calling it again does nothing."""
        if not self._is_left:
            self._is_left = True
            self._keeper.taken -= 1


class ServerPool:
    """The servers of one run: `sessions_per_server` on each, and as many servers as needed."""

    def __init__(
        self, plan: ServerPlan, shells: Shells, password_file: Path, password: str, *,
        sessions_per_server: int = SESSIONS_PER_SERVER, boots: int = BOOTS, well_seconds: float = HEALTHY_SECONDS,
    ) -> None:  # fmt: skip
        self._plan: ServerPlan = plan
        self._shells: Shells = shells
        self._password: str = password
        self._password_file: Path = password_file
        self._sessions_per_server: int = sessions_per_server
        self._boots: asyncio.Semaphore = asyncio.Semaphore(boots)
        self._well_seconds: float = well_seconds
        self._keepers: dict[int, _PooledServer] = {}
        self._closing: asyncio.Task[None] | None = None

    async def lease(self, number: int | None = None) -> PooledServerLease:
        """Return a lease on the server `number`, even if full, or on the first with room. Starts nothing."""
        chosen = self._find_room() if number is None else max(number, 0)
        keeper = self._keepers.get(chosen)
        if keeper is None:
            keeper = self._keepers[chosen] = _PooledServer(self._plan, chosen, self._password, self._well_seconds)
        return PooledServerLease(keeper, self._boots)

    def _find_room(self) -> int:
        number = 0
        while number in self._keepers and self._keepers[number].taken >= self._sessions_per_server:
            number += 1
        return number

    def write_shell_environment(self, worktree: Path, environment: dict[str, str]) -> None:
        """From now on shells that sessions open in `worktree` have exactly `environment`."""
        self._shells.write(worktree, environment)

    @property
    def attach_prefix(self) -> str:
        """Return the program, with its password from a private file, so that no process list shows it."""
        if not self._password_file.exists():
            write_private(self._password_file, self._password)
        source = shlex.quote(str(self._password_file))
        return f'OPENCODE_SERVER_PASSWORD="$(cat {source})" {shlex.join(self._plan.command)}'

    async def close(self) -> None:
        """Stop all servers at once, even when cancelled meanwhile; closing it again does nothing."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        was_cancelled = False
        while not self._closing.done():
            try:
                await asyncio.wait({self._closing})
            except asyncio.CancelledError:
                was_cancelled = True
        self._closing.result()
        if was_cancelled:
            raise asyncio.CancelledError

    async def _close(self) -> None:
        ends = await asyncio.gather(*(keeper.close() for keeper in self._keepers.values()), return_exceptions=True)
        if failures := [end for end in ends if isinstance(end, BaseException)]:
            raise failures[0]
