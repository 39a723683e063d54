"""Groups what all sessions of a run need: the backend, slots, instructions and environments."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tasks_lib.agents.backend import Backend, Need, Session, SessionSpec
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.model import Task
from tasks_lib.project.agent_instructions import Instructions
from tasks_lib.project.child_environment import ChildEnvironments, Kind
from tasks_lib.runtime.git_access import GitAccess
from tasks_lib.runtime.session_places import SessionPlaces


class RemoteBackend(Protocol):
    """Opens sessions on other machines."""

    def open(self, spec: SessionSpec, find_worktree: Callable[[], Worktree], node: Task) -> Session:
        """Open a session for `spec`, whose work is mirrored in the worktree that `find_worktree` returns."""
        ...

    async def begin(self, git: GitAccess, on_change: Callable[[], None]) -> None:
        """Check what these sessions need; call this before opening one. Raises InputError.

        `on_change` is called whenever more sessions may be able to start.
        """
        ...

    def continues(self, conversation: str) -> bool:
        """Whether a conversation, as a record has it, is that of a session on another machine."""
        ...

    async def can_continue(self, conversation: str, attempt: int, turn: int) -> bool:
        """Whether the session of such a conversation can take that turn, or has reported it."""
        ...

    def is_lost(self, conversation: str) -> bool:
        """Whether it is of a session that was given up because nothing was heard of it."""
        ...

    async def has_returned(self, node: Task, conversation: str, attempt: int, turn: int) -> bool:
        """Whether such a session is heard of again, or has reported that turn; may wait a while for it."""
        ...

    async def give_up(self, session: str, conversation: str, worktree: Worktree, log: Path) -> None:
        """End a session for good, with what it pushed last in `worktree`, and its log at `log`."""
        ...

    def has_machine(self, node: Task) -> bool:
        """Whether a machine is online that may run the session of `node`."""
        ...

    async def wait_for_machine(self, node: Task) -> None:
        """Return once there is such a machine; tells the user what the node waits for."""
        ...

    async def close(self) -> None:
        """End what is shared by these sessions."""
        ...


@dataclass(frozen=True, slots=True)
class AgentAccess:
    """Shared by all sessions of a run.

    `prompts` is the directory for prompts that a program reads from a file; `requirements` are the needs that the
    backend has been checked for. `remote` is None if all sessions run on this machine. `clock` is the clock by which
    providers limit requests, in seconds since the epoch.
    """

    backend: Backend
    places: SessionPlaces
    instructions: Instructions
    environments: ChildEnvironments
    prompts: Path
    remote: RemoteBackend | None = None
    clock: Callable[[], float] = time.time
    requirements: set[Need] = field(default_factory=set[Need])

    @property
    def identity(self) -> Mapping[str, str]:
        """The environment variables with the committer's name and address."""
        return self.environments.identity

    def environment(self, kind: Kind, worktree: Worktree) -> dict[str, str]:
        """Return the environment of a child process in `worktree`."""
        return self.environments.of(kind, worktree.slot)
