"""The words in which it is told what an agent's session does: events, and a snapshot that stands for all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tasks_lib.loop_limits import Progress
from tasks_lib.session.spending import Spent


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool at work; one that `has_child` only waits for another session of the tree."""

    name: str
    title: str = ""
    has_child: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """The provider is asked again at `until`."""

    until: float
    message: str = ""
    is_rate_limit: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What a session waits for somebody to answer; `text` is what it asks for."""

    id: str
    session: str
    kind: Literal["permission", "question"]
    text: str = ""
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Todo:
    text: str
    is_done: bool = False
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a session did not go on; `is_refusal` says that no session could, as things are configured.

    `until` is when its provider may be asked again, in seconds since the epoch, 0 where it did not say.
    """

    sentence: str
    is_refusal: bool = False
    is_rate_limit: bool = False
    until: float = 0.0


ReplyKind = Literal["done", "cut off", "interrupted", "aborted", "failed", "unfinished"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the agent last answered to the newest prompt; "unfinished" is one that nothing works at any more."""

    kind: ReplyKind
    text: str = ""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One session of the tree: whether it works, the tools it runs by call, the provider's retry it waits for."""

    is_busy: bool = False
    tools: Mapping[str, Tool] = field(default_factory=dict[str, Tool])
    retry: Retry | None = None
    is_thinking: bool = False


IDLE = Member()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session tree as it was read: it stands for all events before it.

    `steps` are what each answer of a model in this turn used. `prompts` counts the prompts of this turn that the
    session has, `reply` is the answer to the newest of them. `growth` is any number that differs when work was done.
    `headway` says of each session whether it gets on.
    """

    members: Mapping[str, Member]
    requests: tuple[Request, ...] = ()
    steps: Mapping[str, Spent] = field(default_factory=dict[str, Spent])
    todos: tuple[Todo, ...] = ()
    prompts: int = 0
    reply: Reply | None = None
    growth: int = 0
    headway: Mapping[str, Progress] = field(default_factory=dict[str, Progress])


@dataclass(frozen=True, slots=True)
class _Event:
    """`at` is in seconds since the epoch; `session` may be that of any member of the tree."""

    at: float
    session: str


class Busy(_Event):
    """The session works."""


class Idle(_Event):
    """The session does nothing; it may be between two pieces of work."""


class StepStarted(_Event):
    """The model begins to answer."""


class Gap(_Event):
    """Events may have been lost."""


class ServerDied(_Event):
    """The server is gone, or does not answer."""


class Sent(_Event):
    """A prompt was accepted."""


@dataclass(frozen=True, slots=True)
class Retrying(_Event):
    retry: Retry


@dataclass(frozen=True, slots=True)
class TextGrew(_Event):
    """A text grew; None where it cannot be told whether the model thinks or writes."""

    is_thinking: bool | None = None


@dataclass(frozen=True, slots=True)
class TextEnded(_Event):
    part: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolStarted(_Event):
    call: str
    tool: Tool


@dataclass(frozen=True, slots=True)
class ToolEnded(_Event):
    """`given` is what the tool was told, `result` what it answered, or why it failed."""

    call: str
    tool: Tool
    given: str = ""
    result: str = ""
    is_failed: bool = False


@dataclass(frozen=True, slots=True)
class StepEnded(_Event):
    step: str
    spent: Spent


@dataclass(frozen=True, slots=True)
class Compacted(_Event):
    """The conversation is made shorter; with `is_overflow` because the provider refused it as too long."""

    part: str
    is_overflow: bool = False


@dataclass(frozen=True, slots=True)
class Looked(_Event):
    """What the worktree holds was looked at: `work` is another text exactly if that is something else."""

    work: str


@dataclass(frozen=True, slots=True)
class Asked(_Event):
    request: Request


@dataclass(frozen=True, slots=True)
class Answered(_Event):
    request: str


@dataclass(frozen=True, slots=True)
class TodosChanged(_Event):
    todos: tuple[Todo, ...]


@dataclass(frozen=True, slots=True)
class ErrorSeen(_Event):
    problem: Problem


@dataclass(frozen=True, slots=True)
class ChildOpened(_Event):
    child: str


@dataclass(frozen=True, slots=True)
class Polled(_Event):
    """Who of the directory works and who waits for the provider, and what is asked; who is not named is idle."""

    busy: Mapping[str, Retry | None]
    requests: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotTaken(_Event):
    snapshot: Snapshot


Event = (
    Busy | Idle | Retrying | StepStarted | StepEnded | TextGrew | TextEnded | ToolStarted | ToolEnded | Compacted
    | Looked | Asked | Answered | TodosChanged | ErrorSeen | ChildOpened | Gap | ServerDied | Sent | Polled
    | SnapshotTaken
)  # fmt: skip
