"""Defines what a session needs from the owner of opencode's servers: a working address, and its turn to boot."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks_lib.process.process_groups import GroupId

USERNAME = "opencode"


@dataclass(frozen=True, slots=True)
class Address:
    """A server that was healthy when checked.

    `number` identifies its data directory, so a conversation is found again on the server with the same number;
    `generation` counts its starts. `group` is the server's process group, None for a server that the user runs.
    """

    url: str
    password: str
    number: int = 0
    generation: int = 0
    group: GroupId | None = None
    username: str = USERNAME


class ServerLease(Protocol):
    """A session's place on one server, from its opening until it is closed."""

    @property
    def number(self) -> int:
        """The number of the server."""
        ...

    async def address(self) -> Address:
        """Return the server's address once it is healthy; starts it, or restarts it if it has died.

        Raises AgentError if it cannot be started, or does not answer.
        """
        ...

    async def wait_until_dead(self, generation: int) -> None:
        """Return once the server that was started as `generation` is gone; never for a server that the user runs."""
        ...

    def boot(self) -> AbstractAsyncContextManager[None]:
        """Enter while a session is created and begins its first step: only a few may, or the server is overloaded."""
        ...

    def leave(self) -> None:
        """Release the lease; calling it again does nothing."""
        ...


class ServerSource(Protocol):
    """The owner of a run's servers."""

    async def lease(self, number: int | None = None) -> ServerLease:
        """Return a lease on the server `number`, or on any with room. Starts nothing yet."""
        ...

    def write_shell_environment(self, worktree: Path, environment: dict[str, str]) -> None:
        """From now on shells that sessions open in `worktree` have exactly `environment`, and no provider keys."""
        ...

    @property
    def attach_prefix(self) -> str:
        """Return what precedes `attach URL …` on a command line: the program, and how it gets the password."""
        ...
