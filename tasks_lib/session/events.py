"""The events that describe what an agent's session does, and the snapshot that can replace them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tasks_lib.loop_limits import Progress
from tasks_lib.session.liveness import Sample
from tasks_lib.session.spending import Spent


@dataclass(frozen=True, slots=True)
class Tool:
    """A running tool; with `has_child` it only waits for another session of the tree."""

    name: str
    title: str = ""
    has_child: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """The provider will be asked again at `until`."""

    until: float
    message: str = ""
    is_rate_limit: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request that a session waits for; `text` is what it asks."""

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
    """Why a session did not continue; `is_refusal`: with this configuration no session could.

    `is_outage`: the provider cannot be reached, or fails, which may be over later. `until` is when its provider may be
    asked again, in seconds since the epoch, 0 if unknown.
    """

    sentence: str
    is_refusal: bool = False
    is_rate_limit: bool = False
    until: float = 0.0
    is_outage: bool = False


ReplyKind = Literal["done", "cut off", "interrupted", "aborted", "failed", "unfinished"]


@dataclass(frozen=True, slots=True)
class Reply:
    """The agent's last answer to the newest prompt; "unfinished" is an answer that nothing is working on any more."""

    kind: ReplyKind
    text: str = ""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One session of the tree: whether it is busy, its running tools by call, and the retry that it waits for."""

    is_busy: bool = False
    tools: Mapping[str, Tool] = field(default_factory=dict[str, Tool])
    retry: Retry | None = None
    is_thinking: bool = False


IDLE = Member()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a session tree as it was read; it replaces all earlier events.

    `steps` is what each model answer in this turn used. `prompts` counts the prompts of this turn that the session
    received, `reply` is the answer to the newest one. `growth` is a number that changes when work is done.
    `progress` is that of each session.
    """

    members: Mapping[str, Member]
    requests: tuple[Request, ...] = ()
    steps: Mapping[str, Spent] = field(default_factory=dict[str, Spent])
    todos: tuple[Todo, ...] = ()
    prompts: int = 0
    reply: Reply | None = None
    growth: int = 0
    progress: Mapping[str, Progress] = field(default_factory=dict[str, Progress])


@dataclass(frozen=True, slots=True)
class _Event:
    """`at` is in seconds since the epoch; `session` can be any member of the tree."""

    at: float
    session: str


class Busy(_Event):
    """The session is busy."""


class Idle(_Event):
    """The session is idle, possibly only between two steps."""


class StepStarted(_Event):
    """The model started an answer."""


class Gap(_Event):
    """Events may have been lost."""


class ServerDied(_Event):
    """The server exited or does not respond."""


class Sent(_Event):
    """A prompt was accepted."""


@dataclass(frozen=True, slots=True)
class Retrying(_Event):
    retry: Retry


@dataclass(frozen=True, slots=True)
class TextGrew(_Event):
    """A text grew; `is_thinking` is None if it is unknown whether the model is thinking or writing."""

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
    """`given` is the tool's input, `result` its output, or why it failed; it ran for `seconds`.

    `places` are where it changed files or ran a shell. `error` is what went wrong, of a shell line whose status is not
    0 the last line that it printed; "" for nothing.
    """

    call: str
    tool: Tool
    given: str = ""
    result: str = ""
    is_failed: bool = False
    error: str = ""
    seconds: float = 0.0
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepEnded(_Event):
    step: str
    spent: Spent


@dataclass(frozen=True, slots=True)
class Compacted(_Event):
    """The conversation was compacted; with `is_overflow` because the provider rejected it as too long."""

    part: str
    is_overflow: bool = False


@dataclass(frozen=True, slots=True)
class WorktreeChecked(_Event):
    """The worktree was checked for progress; `work` changes if and only if the content of the worktree does."""

    work: str


@dataclass(frozen=True, slots=True)
class ShellsSampled(_Event):
    """The processes of the session's shells were sampled; None if they cannot be observed on this system."""

    sample: Sample | None


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
    """The busy sessions of the directory with their retries, and the open requests; all other sessions are idle."""

    busy: Mapping[str, Retry | None]
    requests: tuple[Request, ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotTaken(_Event):
    snapshot: Snapshot


Event = (
    Busy | Idle | Retrying | StepStarted | StepEnded | TextGrew | TextEnded | ToolStarted | ToolEnded | Compacted
    | WorktreeChecked | ShellsSampled | Asked | Answered | TodosChanged | ErrorSeen | ChildOpened | Gap | ServerDied
    | Sent | Polled | SnapshotTaken
)  # fmt: skip
