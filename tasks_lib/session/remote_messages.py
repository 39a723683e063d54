"""What the machine of a run and the machine of one of its sessions tell each other, as values and as JSON."""

import json
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks_lib.session.spending import NOTHING, Allowance, Spent

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SessionOrder:
    """A session that a run wants on another machine; it contains no command and no path outside the repository.

    `release` is that of the run's machine. `repository` is the name under which the session's machine has registered
    it. `configuration` is a commit of the target on the shared remote; what its `coordinator.yaml` says about sessions
    must have the digest `digest`. `hub` and `session` identify the session's refs, `generation` counts how often it was
    started. `conversation` is that of an earlier start on the same `machine`, "" for a new one. What a session that
    `is_read_only` changes is discarded.
    """

    release: str
    repository: str
    target: str
    configuration: str
    digest: str
    hub: str
    session: str
    generation: int
    node: str
    title: str
    task_file: str
    branch: str
    role: str
    model: str
    machine: str = ""
    conversation: str = ""
    is_read_only: bool = False

    @property
    def branch_key(self) -> tuple[str, str]:
        """The repository and the branch, which one worktree of a machine can have."""
        return self.repository, self.branch


@dataclass(frozen=True, slots=True)
class TurnOrder:
    """A turn to take. `start` is the commit with the state to begin with, `target` the head of the run."""

    attempt: int
    turn: int
    start: str
    target: str
    prompt: str
    allowances: tuple[Allowance, ...] = ()
    kind: Literal["turn"] = "turn"


@dataclass(frozen=True, slots=True)
class SayOrder:
    """A message for the agent during its turn; `id` comes back in `Progress.said`."""

    id: str
    text: str
    kind: Literal["say"] = "say"


@dataclass(frozen=True, slots=True)
class StopOrder:
    """End the current turn, keep its work, and report; with `is_last`, end the session after that."""

    is_last: bool
    kind: Literal["stop"] = "stop"


HubMessage = TurnOrder | SayOrder | StopOrder


@dataclass(frozen=True, slots=True)
class Progress:
    """What a session is doing. Fields up to `todo` are those of a view of a local session.

    `machine` is where it runs. `notices` is the notices file, "" while it is too long to be sent during a turn. `said`
    are the ids of messages with whether the agent received them. `log` is the end of the session's log, which has
    `log_bytes` bytes.
    """

    machine: str
    stage: str
    activity: str = ""
    active_at: str = ""
    spent: Spent = NOTHING
    todos: int = 0
    todos_done: int = 0
    todo: str = ""
    diffstat: str = ""
    conversation: str = ""
    notices: str = ""
    said: tuple[tuple[str, bool], ...] = ()
    log: str = ""
    log_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SetupFailed:
    """A line of `setup` failed there; fields as in ShellError."""

    line: str
    status: int
    tail: str


@dataclass(frozen=True, slots=True)
class TurnReport:
    """How a turn ended; the fields from `status` to `outside` are those of a local turn.

    `state` is the commit with the state of the worktree after the turn, "" if it could not be pushed. `prepared` marks
    what `setup` left uncommitted. If the turn could not be taken, `setup` or `refused` says why. With `is_last`, the
    machine has ended the session.
    """

    attempt: int
    turn: int
    status: int = 0
    timed_out: bool = False
    answer: str = ""
    error: str = ""
    seconds: float = 0.0
    spent: Spent = NOTHING
    excess: str = ""
    refusal: str = ""
    is_limited: bool = False
    stall: str = ""
    loop: str = ""
    outside: tuple[str, ...] = ()
    state: str = ""
    prepared: tuple[str, ...] = ()
    setup: SetupFailed | None = None
    refused: str = ""
    is_last: bool = False


_HUB_MESSAGE: TypeAdapter[HubMessage] = TypeAdapter(HubMessage)
_ORDER, _PROGRESS, _REPORT = TypeAdapter(SessionOrder), TypeAdapter(Progress), TypeAdapter(TurnReport)


def write_message(message: HubMessage | SessionOrder | Progress | TurnReport) -> str:
    """Write a message as JSON; undecodable bytes in texts become question marks."""
    data: object = TypeAdapter(type(message)).dump_python(message)
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode()


def read_hub_message(text: str) -> HubMessage:
    """Read a message to a session. Raises ValueError if it is none."""
    return _read(_HUB_MESSAGE, text)


def read_order(text: str) -> SessionOrder:
    """Read an order. Raises ValueError if it is none."""
    return _read(_ORDER, text)


def read_progress(text: str) -> Progress:
    """Read a session's progress. Raises ValueError if it is none."""
    return _read(_PROGRESS, text)


def read_report(text: str) -> TurnReport:
    """Read a session's report. Raises ValueError if it is none."""
    return _read(_REPORT, text)


def _read(adapter: TypeAdapter[T], text: str) -> T:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise ValueError(what) from error
