"""The messages between a terminal and a run: letters and their receipts, both flow run inputs."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import cast

REQUEST_PREFIX = "coordinator-message-"
RECEIPT_PREFIX = "coordinator-receipt-"
MOST_CHARS = 65_536
"""Maximum length of a letter's text; longer texts belong in a file."""
MAX_NODES = 1_000
ANSWER_SECONDS = 10.0
"""How long a terminal waits for the receipt of its letter."""


class Wish(StrEnum):
    """What a letter asks for: send a message to an agent, abort nodes, or stop the run as Ctrl-C does."""

    MESSAGE = "message"
    ABORT = "abort"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class UserRequest:
    """One request. A message has one node and a text, an abort has nodes, a stop has neither. Nothing is executed.

    `until` is when the sender stops waiting, in seconds since the epoch, 0 for never: a server that does not answer may
    still accept the letter and deliver it much later.
    """

    wish: Wish
    nodes: tuple[str, ...] = ()
    text: str = ""
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a letter for one node, or "" for the run; if `is_done` is False, `sentence` says why."""

    node: str
    is_done: bool
    sentence: str


def new_key() -> str:
    """A unique key for a new letter."""
    return f"{REQUEST_PREFIX}{uuid.uuid4()}"


def receipt_key(letter_key: str) -> str:
    """The key of the receipt for the letter at `letter_key`."""
    return f"{RECEIPT_PREFIX}{letter_key.removeprefix(REQUEST_PREFIX)}"


def write_request(letter: UserRequest) -> str:
    """Write `letter` as the value of an input."""
    return json.dumps(asdict(letter))


def read_request(value: str) -> UserRequest:
    """Read the letter in an input; raises ValueError with the reason if it is not valid."""
    found = _read_object(value)
    wish = found.get("wish")
    if wish not in tuple(Wish):
        raise ValueError(f"wish is {_cut(wish)}, but must be one of {', '.join(Wish)}")
    until = found.get("until", 0)
    if not isinstance(until, int | float):
        raise ValueError("until is not a number")  # noqa: TRY004 - One kind of error, as below.
    letter = UserRequest(Wish(str(wish)), _read_nodes(found.get("nodes", [])), _read_text(found.get("text", "")), until)
    if letter.wish is Wish.MESSAGE and len(letter.nodes) != 1:
        raise ValueError("a message needs exactly one node")
    if letter.wish is Wish.ABORT and not letter.nodes:
        raise ValueError("an abort needs at least one node")
    return letter


def write_receipt(answers: Sequence[Answer]) -> str:
    """Write the answers to a letter as the value of an input."""
    return json.dumps({"answers": [asdict(answer) for answer in answers]})


def read_receipt(value: str) -> tuple[Answer, ...]:
    """Read the answers in an input; raises ValueError if it is not valid."""
    listed = _read_object(value).get("answers")
    if not isinstance(listed, list):
        raise ValueError("the receipt has no answers")  # noqa: TRY004 - One kind of error, as below.
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
    if not isinstance(found, str) or len(found) > MOST_CHARS:
        raise ValueError(f"text is not a string of at most {MOST_CHARS} characters")
    return found


def _cut(found: object) -> str:
    return repr(found)[:80]
