"""Decides what a session needs of whoever keeps opencode's servers: an address that answers, and turns at booting."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks_lib.process.process_groups import GroupId

USERNAME = "opencode"


@dataclass(frozen=True, slots=True)
class Address:
    """A server that was seen healthy.

    `number` names its data directory, so a conversation is found again on the server of the same number; `generation`
    counts its starts. `group` is the server's process group, None for a server that is not ours.
    """

    url: str
    password: str
    number: int = 0
    generation: int = 0
    group: GroupId | None = None
    username: str = USERNAME


class Seat(Protocol):
    """A session's place on one server, held from its opening to its close."""

    @property
    def number(self) -> int:
        """Which server this is a seat on."""
        ...

    async def address(self) -> Address:
        """The server's address, once it is healthy; starts it, or starts it again if it has died.

        Raises AgentError if it cannot be started, or does not answer.
        """
        ...

    async def wait_until_dead(self, generation: int) -> None:
        """Return once the server that was started as `generation` is gone; for a server not ours, never."""
        ...

    def boot(self) -> AbstractAsyncContextManager[None]:
        """Hold while a session is created and begins its first step: few do so at once, or the server drowns."""
        ...

    def leave(self) -> None:
        """Give the seat back; leaving twice does nothing more."""
        ...


class Host(Protocol):
    """Whoever keeps the servers of a run."""

    async def sit(self, number: int | None = None) -> Seat:
        """A seat on the server `number`, or on any with room. Starts nothing yet."""
        ...

    def write_shell_environment(self, worktree: Path, environment: dict[str, str]) -> None:
        """From now on shells that sessions open in `worktree` have exactly `environment`, and no key of ours."""
        ...

    @property
    def attach_prefix(self) -> str:
        """What stands before `attach URL …` on a command line: the program, and how it gets the password."""
        ...
