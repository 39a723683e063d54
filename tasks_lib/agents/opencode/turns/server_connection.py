"""Hides which server a conversation uses: its seat, its address, and that the server may die and be restarted."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tasks_lib.agents.opencode.api.client import Client
from tasks_lib.agents.opencode.api.event_stream import Shared, Wire
from tasks_lib.agents.opencode.servers.server_interface import Host, Seat
from tasks_lib.errors import AgentError

_GONE_SECONDS = 2.0


class ServerConnection:
    """One conversation's connection to a server of `host`: number `wanted`, or any.

    `on_death` is called when the server has died, `on_release` before the connection is given up.
    """

    def __init__(
        self,
        host: Host,
        shared: Shared,
        wanted: int | None,
        on_death: Callable[[], None],
        on_release: Callable[[], None],
    ) -> None:
        self.wire: Wire | None = None
        self._host = host
        self._shared = shared
        self._wanted = wanted
        self._on_death = on_death
        self._on_release = on_release
        self._seat: Seat | None = None
        self._death: asyncio.Task[None] | None = None

    @property
    def seat(self) -> Seat:
        assert self._seat is not None, "call `reach` before using the seat"
        return self._seat

    @property
    def client(self) -> Client:
        assert self.wire is not None, "call `reach` before using the client"
        return self.wire.client

    @property
    def generation(self) -> int:
        """The generation (start) of the server."""
        return self.client.address.generation

    @property
    def attach_prefix(self) -> str:
        """The words that precede `attach` on a command line."""
        return self._host.attach_prefix

    async def reach(self) -> None:
        """Take a seat and make sure that the server answers, restarting it if it has died; raises AgentError."""
        if self._seat is None:
            self._seat = await self._host.sit(self._wanted)
        address = await self._seat.address()
        if self.wire is not None and self.wire.client.address == address:
            return
        await self._release()
        self.wire = self._shared.wires.hold(address)
        self._death = asyncio.create_task(self._wait_for_death(address.generation))

    async def outlast_death(self) -> None:
        """Give the host a moment to notice that a server which cannot be reached has died."""
        if self._death is not None:
            await asyncio.wait({self._death}, timeout=_GONE_SECONDS)

    async def dispose(self, directory: Path) -> None:
        """Make the server unload the worktree, if it is running and is coordinator's own."""
        if self.wire is not None and self._death is not None and not self._death.done() and self.client.address.group:
            with suppress(AgentError):
                await self.client.dispose(directory)

    async def leave(self) -> None:
        """Release the seat and the wire; calling it again does nothing."""
        await self._release()
        if self._seat is not None:
            self._seat.leave()
            self._seat = None

    async def _wait_for_death(self, generation: int) -> None:
        await self.seat.wait_until_dead(generation)
        self._on_death()

    async def _release(self) -> None:
        if self._death is not None:
            self._death.cancel()
            self._death = None
        self._on_release()
        wire, self.wire = self.wire, None
        if wire is not None:
            await self._shared.wires.release(wire)
