"""Decides what a coding agent is to its callers: a session that is opened, prompted turn by turn, and closed."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks_lib.process.process_groups import GroupId
from tasks_lib.session.spending import NOTHING, Allowance, Spent


@dataclass(frozen=True, slots=True)
class Need:
    """A role that sessions will be opened with, and the model for it ("" for the role's own, or the usual one).

    `where` says what asks for it, as the beginning of a message: `tasks/a.md:4: model` or `coordinator.yaml: roles`.
    """

    role: str
    model: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class SessionView:
    """What a session is doing right now, for a person who watches.

    `activity` is a few words such as `bash: npm test` or `retrying until 12:03:04 (rate limited)`; `active_at` is when
    it last showed life, ISO 8601 in UTC. `todos_done` of `todos` items of the agent's own list are done, `todo` is the
    one it is at. `spent` is that of the turn at work, subagents included.
    """

    activity: str = ""
    active_at: str = ""
    spent: Spent = NOTHING
    todos: int = 0
    todos_done: int = 0
    todo: str = ""


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What a session is for and where it works.

    `session` is unique among all that live on this machine. `cwd` is the worktree, `task_file` relative to it.
    `environment` is complete: a program of the session sees this, and the turn's variables, and nothing else. `log`
    is appended to. `prompt_directory` is outside the worktree and is removed by the caller. `turn_seconds` bounds one
    turn; `stop_seconds` is how long what is told to end may take. `on_start` is called with each process group that
    the session starts, before anything waits for it; a backend that starts none never calls it.

    `model` is `provider/model`, "" for the role's own or the usual one. `conversation` is what `on_conversation` told
    of an earlier session whose conversation goes on, "" for a new one; what it holds is the backend's own. `on_view`
    is called when what the session does changes, at most a few times a second, and must be quick. `allowances` are
    what may still be spent, asked whenever more was; a turn that spends more is ended. `look` tells what the worktree
    holds, in a text that is another exactly if that is: progress that no chat shows. A session that `is_read_only` may
    change no file.
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
    model: str = ""
    title: str = ""
    conversation: str = ""
    on_conversation: Callable[[str], None] | None = None
    on_view: Callable[[SessionView], None] | None = None
    allowances: Callable[[], Sequence[Allowance]] | None = None
    look: Callable[[], Awaitable[str]] | None = None
    is_read_only: bool = False


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
    `spent` is what the turn used, as far as the backend knows; `turns` and `seconds` always are known. `excess` says
    which budget was used up, if that ended the turn. `refusal` says why no session can succeed as things are
    configured (a key or a model that the provider refuses); the whole run stops then. `is_limited` says that the
    provider only asked for patience: the same session may be prompted again, and waits itself until that makes sense.
    """

    status: int
    timed_out: bool
    answer: str
    error: str
    seconds: float
    spent: Spent = NOTHING
    excess: str = ""
    refusal: str = ""
    is_limited: bool = False


class Session(Protocol):
    """One agent conversation; one turn at a time."""

    async def prompt(self, text: str, turn: TurnSpec) -> TurnEnd:
        """Say `text` and wait for the end of the turn; cancelling ends the turn and all that it started.

        Raises AgentError if the agent cannot be started or reached.
        """
        ...

    async def say(self, text: str) -> bool:
        """Hand `text` to the agent in the middle of its turn; False if the backend, or the moment, has no way to."""
        ...

    def attach_command(self) -> str:
        """A shell line that opens the conversation in the agent's own interface, "" if there is none."""
        ...

    async def close(self) -> None:
        """End what is left of the session; closing twice does nothing more."""
        ...


class Backend(Protocol):
    """A way of reaching an agent. Opened before any worktree of a run is made, closed when its last session is."""

    async def prepare(self, needs: Sequence[Need]) -> None:
        """See that sessions as `needs` lists can be opened, starting what that takes.

        Raises InputError, with every fault and what to do about it, before any session is opened.
        """
        ...

    async def close(self) -> None:
        """End everything of the backend's that is left; closing twice does nothing more."""
        ...

    def open(self, spec: SessionSpec) -> Session:
        """A session for `spec`; nothing is started before its first prompt."""
        ...
