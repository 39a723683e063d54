"""Decides what a coding agent is to its callers: a session that is opened, prompted turn by turn, and closed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks_lib.process.groups import GroupId


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What a session is for and where it works.

    `session` is unique among all that live on this machine. `cwd` is the worktree, `task_file` relative to it.
    `environment` is complete: a program of the session sees this, and the turn's variables, and nothing else. `log`
    is appended to. `prompt_directory` is outside the worktree and is removed by the caller. `turn_seconds` bounds one
    turn; `stop_seconds` is how long what is told to end may take. `on_start` is called with each process group that
    the session starts, before anything waits for it; a backend that starts none never calls it.
    """

    session: str
    role: str
    task_id: str
    task_file: str
    branch: str
    slot: int
    cwd: Path
    environment: Mapping[str, str]
    log: Path
    prompt_directory: Path
    turn_seconds: float
    stop_seconds: float
    on_start: Callable[[GroupId], None] | None = None


@dataclass(frozen=True, slots=True)
class TurnSpec:
    """Which turn a prompt opens: `turn` counts from 1 in each `attempt`, `target` is the head's commit right now."""

    attempt: int
    turn: int
    target: str


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ended; what it did is read from git.

    `status` is 0 exactly if the agent itself ended well (an exit status, negative for a signal; an HTTP backend
    has others). `answer` is the last of what it printed, at most 4,000 bytes of it. `error` is "" or a sentence.
    """

    status: int
    timed_out: bool
    answer: str
    error: str
    seconds: float


class Session(Protocol):
    """One agent conversation; one turn at a time."""

    async def prompt(self, text: str, turn: TurnSpec) -> TurnEnd:
        """Say `text` and wait for the end of the turn; cancelling ends the turn and all that it started.

        Raises AgentError if the agent cannot be started or reached.
        """
        ...

    async def close(self) -> None:
        """End what is left of the session; closing twice does nothing more."""
        ...


class Backend(Protocol):
    """A way of reaching an agent."""

    def open(self, spec: SessionSpec) -> Session:
        """A session for `spec`; nothing is started before its first prompt."""
        ...
