"""Hides a server that the user runs, which is started before a run and continues after it."""

import asyncio
import shlex
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tasks_lib.agents.opencode.servers.executable import check_version
from tasks_lib.agents.opencode.servers.server_interface import USERNAME, Address
from tasks_lib.agents.opencode.servers.server_pool import BOOTS
from tasks_lib.agents.opencode.servers.server_process import read_health
from tasks_lib.errors import AgentError


class ExternalServerLease:
    """A session's place on a server that the user runs."""

    number: int = 0

    def __init__(self, address: Address, boots: asyncio.Semaphore) -> None:
        self._address: Address = address
        self._boots: asyncio.Semaphore = boots

    async def address(self) -> Address:
        """Return the server's address, if the server is usable; raises AgentError with what to do."""
        if fault := check_version(await read_health(self._address), f"the server at {self._address.url}"):
            raise AgentError(fault)
        return self._address

    async def wait_until_dead(self, generation: int) -> None:
        """Never return: the user decides when the server stops."""
        await asyncio.Event().wait()

    @asynccontextmanager
    async def boot(self) -> AsyncGenerator[None]:
        """Enter while a session begins; only a few may at the same time."""
        async with self._boots:
            yield

    def leave(self) -> None:
        """Do nothing: the server itself limits its sessions."""


class ExternalServer:
    """A server that the user runs: coordinator neither starts nor stops it, nor sets the environment of its shells."""

    def __init__(self, url: str, environment: Mapping[str, str], command: tuple[str, ...] = ("opencode",)) -> None:
        password = environment.get("OPENCODE_SERVER_PASSWORD", "")
        username = environment.get("OPENCODE_SERVER_USERNAME") or USERNAME
        self._address: Address = Address(url, password, username=username)
        self._command: tuple[str, ...] = command
        self._boots: asyncio.Semaphore = asyncio.Semaphore(BOOTS)

    async def lease(self, number: int | None = None) -> ExternalServerLease:
        """Return a lease; there is only one server."""
        return ExternalServerLease(self._address, self._boots)

    def write_shell_environment(self, worktree: Path, environment: dict[str, str]) -> None:
        """Do nothing: shells of that server have the server's own environment."""

    @property
    def attach_prefix(self) -> str:
        """Return the program; the password is in the user's own environment."""
        return shlex.join(self._command)

    async def close(self) -> None:
        """Leave the server running."""
