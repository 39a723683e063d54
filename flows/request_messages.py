"""Defines the requests to a run and the answers to them, and how both are written as inputs of its flow run."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Literal, TypeAlias, cast

REQUEST_PREFIX = "coordinator-message-"
ANSWERS_PREFIX = "coordinator-receipt-"
MAX_CHARS = 65_536
"""Maximum length of a request's text; longer texts belong in a file."""
MAX_NODES = 1_000
KIND_KEY = "wish"
"""The key of the kind, in inputs and in JSON; earlier releases read and wrote it under this name."""
ANSWER_SECONDS = 10.0
"""How long the sender of a request waits for the answers."""


Policy: TypeAlias = Literal["abort-dependents", "continue-running"]
"""What happens to nodes in progress when their run is aborted, and to tasks in progress when who spawned them is."""


class RequestKind(StrEnum):
    """What a request asks for: a message to an agent, aborting, resolving, landing or taking nodes, spawning a task, or
    ending the run.

    STOP does what Ctrl-C does; after DRAIN no more nodes are started.
    """

    MESSAGE = "message"
    ABORT = "abort"
    RESOLVE = "resolve"
    SPAWN = "spawn"
    LAND = "land"
    TAKE = "take"
    STOP = "stop"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class UserRequest:
    """One request. A message has one node and a text, an abort has nodes, a stop or drain neither. Nothing is executed.

    To resolve takes one id, of a blocked node or of its resolve task, and a text, role and model that may be empty. To
    spawn takes a task file as text or the id of a task, and may name the task `parent` whose `session` asks for it.
    An abort has a `policy` for the tasks that its nodes have spawned.

    To take needs one id and, as its text, who takes it; `is_forced` takes it over from somebody else.

    `until` is when the sender stops waiting, in seconds since the epoch, 0 for never: a server that does not answer may
    still accept the request and deliver it much later.
    """

    kind: RequestKind
    nodes: tuple[str, ...] = ()
    text: str = ""
    until: float = 0.0
    role: str = ""
    model: str = ""
    parent: str = ""
    session: str = ""
    policy: Policy = "abort-dependents"
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a request for one node, or "" for the run; if `is_done` is False, `sentence` says why."""

    node: str
    is_done: bool
    sentence: str


def new_key() -> str:
    """Return a unique key for a new request."""
    return f"{REQUEST_PREFIX}{uuid.uuid4()}"


def answers_key(request_key: str) -> str:
    """Return the key of the answers to the request at `request_key`."""
    return f"{ANSWERS_PREFIX}{request_key.removeprefix(REQUEST_PREFIX)}"


def write_request(request: UserRequest) -> str:
    """Write `request` as the value of an input."""
    fields = asdict(request)
    return json.dumps({KIND_KEY: fields.pop("kind"), **fields})


def read_request(value: str) -> UserRequest:
    """Read the request in an input; raises ValueError with the reason if it is not valid."""
    found = _read_object(value)
    kind = found.get(KIND_KEY)
    if kind not in tuple(RequestKind):
        raise ValueError(f"{KIND_KEY} is {_cut(kind)}, but must be one of {', '.join(RequestKind)}")
    until = found.get("until", 0)
    if not isinstance(until, int | float):
        raise ValueError("until is not a number")  # noqa: TRY004 - One kind of error, as below.
    request = UserRequest(
        RequestKind(str(kind)),
        _read_nodes(found.get("nodes", [])),
        _read_text(found.get("text", "")),
        until,
        _read_text(found.get("role", "")),
        _read_text(found.get("model", "")),
        _read_text(found.get("parent", "")),
        _read_text(found.get("session", "")),
        "continue-running" if found.get("policy") == "continue-running" else "abort-dependents",
        is_forced=found.get("is_forced") is True,
    )
    _require_parts(request)
    return request


def _require_parts(request: UserRequest) -> None:
    if request.kind is RequestKind.MESSAGE and len(request.nodes) != 1:
        raise ValueError("a message needs exactly one node")
    if request.kind in (RequestKind.RESOLVE, RequestKind.LAND, RequestKind.TAKE) and len(request.nodes) != 1:
        raise ValueError(f"to {request.kind} needs exactly one node")
    if request.kind is RequestKind.ABORT and not request.nodes:
        raise ValueError("an abort needs at least one node")
    if request.kind is RequestKind.SPAWN and (len(request.nodes) != 1) != bool(request.text):
        raise ValueError("spawning needs either the text of a task file or one id")


def write_answers(answers: Sequence[Answer]) -> str:
    """Write the answers to a request as the value of an input."""
    return json.dumps({"answers": [asdict(answer) for answer in answers]})


def read_answers(value: str) -> tuple[Answer, ...]:
    """Read the answers in an input; raises ValueError if it is not valid."""
    listed = _read_object(value).get("answers")
    if not isinstance(listed, list):
        raise ValueError("the input has no answers")  # noqa: TRY004 - One kind of error, as below.
    try:
        return tuple(Answer(**one) for one in cast("list[dict[str, str]]", listed))  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise ValueError(str(error)) from error


def _read_object(value: str) -> Mapping[str, object]:
    found: object = json.loads(value)
    if not isinstance(found, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - One kind of error, as below.
    return cast("Mapping[str, object]", found)


def _read_nodes(found: object) -> tuple[str, ...]:
    listed = cast("list[object]", found) if isinstance(found, list) else None
    if listed is None or len(listed) > MAX_NODES or not all(isinstance(one, str) and one for one in listed):
        raise ValueError(f"nodes is not a list of at most {MAX_NODES} ids")
    return tuple(dict.fromkeys(str(one) for one in listed))


def _read_text(found: object) -> str:
    if not isinstance(found, str) or len(found) > MAX_CHARS:
        raise ValueError(f"text is not a string of at most {MAX_CHARS} characters")
    return found


def _cut(found: object) -> str:
    return repr(found)[:80]
