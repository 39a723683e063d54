"""A proxy in front of opencode's server that can cut its event streams, and keep them cut."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from tasks_lib.agents.opencode.servers.server_interface import Address, ServerLease, ServerSource

LOOPBACK = "127.0.0.1"
BLOCK = 1 << 16


class CuttingProxy:
    """Forwards every connection to `port`, but an event stream only while `is_open`."""

    def __init__(self) -> None:
        self.port: int = 0
        self.url: str = ""
        self.streams: int = 0
        self._is_open: bool = True
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Cut all event streams, and any that are opened later."""
        self._is_open = False
        for writer in self._writers:
            writer.transport.abort()

    def restore(self) -> None:
        self._is_open = True

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there: asyncio.StreamWriter | None = None
        try:
            back, there = await asyncio.open_connection(LOOPBACK, self.port)
            await asyncio.gather(self._pass_on(reader, there, writer), _pump(back, writer))
        except OSError:
            return
        finally:
            self._writers.discard(writer)
            for one in (writer, there):
                if one is not None:
                    one.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        """Forward requests, and record a connection that becomes a stream, even if it was used for other requests before."""
        with suppress(OSError):
            while block := await reader.read(BLOCK):
                if block.startswith(b"GET /global/event"):
                    self.streams += 1
                    self._writers.add(writer)
                    if not self._is_open:
                        break
                there.write(block)
                await there.drain()
        for one in (there, writer):
            one.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while block := await reader.read(BLOCK):
            writer.write(block)
            await writer.drain()
        writer.transport.abort()


class ProxySource:
    """Servers that are reached through a proxy."""

    def __init__(self, servers: ServerSource, proxy: CuttingProxy) -> None:
        self._servers: ServerSource = servers
        self._proxy: CuttingProxy = proxy

    async def lease(self, number: int | None = None) -> ServerLease:
        return _ProxyLease(await self._servers.lease(number), self._proxy)

    def write_shell_environment(self, worktree: Path, environment: dict[str, str]) -> None:
        self._servers.write_shell_environment(worktree, environment)

    @property
    def attach_prefix(self) -> str:
        return self._servers.attach_prefix


class _ProxyLease:
    def __init__(self, lease: ServerLease, proxy: CuttingProxy) -> None:
        self._lease: ServerLease = lease
        self._proxy: CuttingProxy = proxy

    @property
    def number(self) -> int:
        return self._lease.number

    async def address(self) -> Address:
        found = await self._lease.address()
        self._proxy.port = int(found.url.rpartition(":")[2])
        return replace(found, url=self._proxy.url)

    async def wait_until_dead(self, generation: int) -> None:
        await self._lease.wait_until_dead(generation)

    def boot(self) -> AbstractAsyncContextManager[None]:
        return self._lease.boot()

    def leave(self) -> None:
        self._lease.leave()


@asynccontextmanager
async def open_proxy() -> AsyncGenerator[CuttingProxy]:
    proxy = CuttingProxy()
    server = await asyncio.start_server(proxy.handle, LOOPBACK, 0)
    proxy.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        proxy.cut()
        server.close()
