"""Hides which server a conversation uses: its lease, its address, and that the server may die and be restarted."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tasks_lib.agents.opencode.api.client import Client
from tasks_lib.agents.opencode.api.event_stream import Shared, SharedConnection
from tasks_lib.agents.opencode.servers.server_interface import ServerLease, ServerSource
from tasks_lib.errors import AgentError

_GONE_SECONDS = 2.0


class ServerConnection:
    """One conversation's connection to a server of `servers`: number `wanted`, or any.

    `on_death` is called when the server has died, `on_release` before the connection is given up.
    """

    def __init__(
        self,
        servers: ServerSource,
        shared: Shared,
        wanted: int | None,
        on_death: Callable[[], None],
        on_release: Callable[[], None],
    ) -> None:
        self.connection: SharedConnection | None = None
        self._servers = servers
        self._shared = shared
        self._wanted = wanted
        self._on_death = on_death
        self._on_release = on_release
        self._lease: ServerLease | None = None
        self._death: asyncio.Task[None] | None = None

    @property
    def lease(self) -> ServerLease:
        assert self._lease is not None, "call `reach` before using the lease"
        return self._lease

    @property
    def client(self) -> Client:
        assert self.connection is not None, "call `reach` before using the client"
        return self.connection.client

    @property
    def generation(self) -> int:
        """The generation (start) of the server."""
        return self.client.address.generation

    @property
    def attach_prefix(self) -> str:
        """The words that precede `attach` on a command line."""
        return self._servers.attach_prefix

    async def reach(self) -> None:
        """Take a lease and make sure that the server answers, restarting it if it has died; raises AgentError."""
        if self._lease is None:
            self._lease = await self._servers.lease(self._wanted)
        address = await self._lease.address()
        if self.connection is not None and self.connection.client.address == address:
            return
        await self._release()
        self.connection = self._shared.connections.hold(address)
        self._death = asyncio.create_task(self._wait_for_death(address.generation))

    async def outlast_death(self) -> None:
        """Wait a moment for word that a server which cannot be reached has died."""
        if self._death is not None:
            await asyncio.wait({self._death}, timeout=_GONE_SECONDS)

    async def dispose(self, directory: Path) -> None:
        """Make the server unload the worktree, if it is running and is coordinator's own."""
        if (
            self.connection is not None
            and self._death is not None
            and not self._death.done()
            and self.client.address.group
        ):
            with suppress(AgentError):
                await self.client.dispose(directory)

    async def leave(self) -> None:
        """Release the lease and the connection; calling it again does nothing."""
        await self._release()
        if self._lease is not None:
            self._lease.leave()
            self._lease = None

    async def _wait_for_death(self, generation: int) -> None:
        await self.lease.wait_until_dead(generation)
        self._on_death()

    async def _release(self) -> None:
        if self._death is not None:
            self._death.cancel()
            self._death = None
        self._on_release()
        connection, self.connection = self.connection, None
        if connection is not None:
            await self._shared.connections.release(connection)
