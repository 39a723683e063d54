"""Defines the interface of a coding agent: a session is opened, prompted turn by turn, and closed."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks_lib.model import Notice
from tasks_lib.process.process_groups import GroupId
from tasks_lib.session.spending import NOTHING, Allowance, Spent


@dataclass(frozen=True, slots=True)
class Need:
    """A role that sessions will be opened with, and its model ("" for the role's own, or the default).

    `where` says what asks for it, as the start of a message: `tasks/a.md:4: model` or `coordinator.yaml: roles`.
    """

    role: str
    model: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class SessionView:
    """What a session is doing right now, for a user who watches it.

    `activity` is a few words such as `bash: npm test` or `retrying until 12:03:04 (rate limited)`; `active_at` is the
    time of its last activity, ISO 8601 in UTC. The agent's own todo list has `todos` items, of which `todos_done` are
    done; `todo` is the current one. `spent` is that of the current turn, subagents included. For a session on another
    machine, `machine` is its name, `diffstat` what it has changed so far, and `silence` what was found when nothing was
    heard of it for too long, "" once it is heard of again.
    """

    activity: str = ""
    active_at: str = ""
    spent: Spent = NOTHING
    todos: int = 0
    todos_done: int = 0
    todo: str = ""
    machine: str = ""
    diffstat: str = ""
    silence: str = ""


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What a session is for and where it runs.

    `session` is unique among all sessions on this machine. `cwd` is the worktree, `task_file` is relative to it.
    `environment` is complete: the session's programs see it and the turn's variables, and nothing else. `log` is
    appended to. `prompt_directory` is outside the worktree and is removed by the caller. `turn_seconds` limits one
    turn; `stop_seconds` is how long processes may take to end. `on_start` is called with each process group that the
    session starts, before anything waits for it; a backend that starts none never calls it.

    `model` is `provider/model`, "" for the role's own or the default. `conversation` is what `on_conversation` received
    from an earlier session whose conversation continues, "" for a new one; its format is the backend's own. `on_view`
    is called when the session's activity changes, at most a few times a second, and must be quick. `allowances` are
    what may still be spent, checked whenever more was; a turn that spends more is ended. `digest_worktree` returns a
    text that changes exactly when the worktree's content does: progress that no chat shows. A session that
    `is_read_only` may change no file. `on_prepared` is called with marks of what `setup` left uncommitted, if the
    session ran it: that of another machine does. `find_limit` returns what the agent last reported in a turn, by its
    number, about a provider that limits requests. The session's processes may use `memory_mb` megabytes together, 0 for
    any; `on_excess` is called with a sentence when one of them was ended for that.
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
    digest_worktree: Callable[[], Awaitable[str]] | None = None
    is_read_only: bool = False
    on_prepared: Callable[[Sequence[str]], None] | None = None
    find_limit: Callable[[int], Notice | None] | None = None
    memory_mb: int = 0
    on_excess: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class TurnSpec:
    """The turn that a prompt starts: `turn` counts from 1 in each `attempt`, `target` is the head's current commit."""

    attempt: int
    turn: int
    target: str


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ended; what the agent did is read from git.

    `status` is 0 only if the agent itself ended successfully (an exit status, negative for a signal; an HTTP backend
    has others). `answer` is the end of what it printed, at most 4,000 bytes. `error` is "" or a sentence. `spent` is
    what the turn used, as far as the backend knows; `turns` and `seconds` are always known. `excess` says which budget
    was exhausted, if that ended the turn. `refusal` says why no session can succeed with this configuration (e.g. the
    provider rejects the key or the model); the whole run stops then. `is_limited` says that the provider only asked to
    wait: the same session may be prompted again, and waits by itself until that makes sense. `limited_until` is when
    that is for this session, in seconds since the epoch; 0 if all sessions with that provider wait. `stall` says what
    the turn was waiting for when it was ended because nothing happened any more, `loop` what the agent repeated when it
    was ended because only that happened. `outside` are the places outside of the worktree where its tools changed files
    or ran, as far as the agent says. `denied` are the uses of tools that the agent's own permissions refused.
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
    stall: str = ""
    loop: str = ""
    outside: tuple[str, ...] = ()
    limited_until: float = 0.0
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProviderState:
    """Until when a provider accepts no prompt, and when it last answered one; in seconds since the epoch, 0 if never.

    A backend that does not see the answers leaves `answered_at` at 0.
    """

    paused_until: float = 0.0
    answered_at: float = 0.0


class Session(Protocol):
    """One agent conversation; one turn at a time."""

    async def prompt(self, text: str, turn: TurnSpec) -> TurnEnd:
        """Send `text` and wait for the end of the turn; cancelling ends the turn and everything that it started.

        Raises AgentError if the agent cannot be started or reached.
        """
        ...

    async def say(self, text: str) -> bool:
        """Send `text` to the agent during its turn; False if the backend does not support it, or not right now."""
        ...

    def attach_command(self) -> str:
        """Return a shell line that opens the conversation in the agent's own interface, "" if there is none."""
        ...

    async def close(self) -> None:
        """End what is left of the session; closing it again does nothing."""
        ...


class Backend(Protocol):
    """A way of reaching an agent. Opened before a run makes any worktree, closed after its last session."""

    async def prepare(self, needs: Sequence[Need]) -> None:
        """Make sure that sessions as listed in `needs` can be opened, and start what they require.

        Raises InputError, with every fault and how to fix it, before any session is opened.
        """
        ...

    async def close(self) -> None:
        """End everything that the backend still runs; closing it again does nothing."""
        ...

    def open(self, spec: SessionSpec) -> Session:
        """Open a session for `spec`; nothing is started before its first prompt."""
        ...

    def name_model(self, role: str, model: str) -> str:
        """The `provider/model` of sessions with `role` and `model`, as a SessionSpec has them; "" if it is unknown."""
        ...

    def find_provider(self, role: str, model: str) -> ProviderState:
        """What is known about the provider of sessions with `role` and `model`, as a SessionSpec has them."""
        ...
