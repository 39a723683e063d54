"""Says what travels between a terminal and a running graph: letters there, receipts back, each a flow run input."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import cast

REQUEST_PREFIX = "coordinator-message-"
RECEIPT_PREFIX = "coordinator-receipt-"
MOST_CHARS = 65_536
"""Of the text of a letter; what is longer belongs into a file of the repository."""
MAX_NODES = 1_000
ANSWER_SECONDS = 10.0
"""How long a terminal waits for the receipt of its letter."""


class Wish(StrEnum):
    """What a letter wants: words brought to an agent, nodes ended, or the whole run stopped as by Ctrl-C."""

    MESSAGE = "message"
    ABORT = "abort"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class UserRequest:
    """One wish. A message has one node and a text, an abort has nodes, a stop has neither; nothing is ever run.

    `until` is when its sender stops waiting, in seconds since the epoch, 0 for never: a server that does not answer may
    still take the letter, and deliver it when nobody expects it any more.
    """

    wish: Wish
    nodes: tuple[str, ...] = ()
    text: str = ""
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a letter for one node, "" for the run; where `is_done` is False, `sentence` says why."""

    node: str
    is_done: bool
    sentence: str


def new_key() -> str:
    """The key of a new letter, unlike any other."""
    return f"{REQUEST_PREFIX}{uuid.uuid4()}"


def receipt_key(letter_key: str) -> str:
    """The key of the receipt for the letter at `letter_key`."""
    return f"{RECEIPT_PREFIX}{letter_key.removeprefix(REQUEST_PREFIX)}"


def write_request(letter: UserRequest) -> str:
    """`letter` as the value of an input."""
    return json.dumps(asdict(letter))


def read_request(value: str) -> UserRequest:
    """The letter that an input holds; raises ValueError, saying what is wrong, for anything else."""
    found = _read_object(value)
    wish = found.get("wish")
    if wish not in tuple(Wish):
        raise ValueError(f"wish is {_cut(wish)}, and not one of {', '.join(Wish)}")
    until = found.get("until", 0)
    if not isinstance(until, int | float):
        raise ValueError("until is no time")  # noqa: TRY004 - One kind of error, as below.
    letter = UserRequest(Wish(str(wish)), _read_nodes(found.get("nodes", [])), _read_text(found.get("text", "")), until)
    if letter.wish is Wish.MESSAGE and len(letter.nodes) != 1:
        raise ValueError("a message is for one node")
    if letter.wish is Wish.ABORT and not letter.nodes:
        raise ValueError("no node is named")
    return letter


def write_receipt(answers: Sequence[Answer]) -> str:
    """What became of a letter as the value of an input."""
    return json.dumps({"answers": [asdict(answer) for answer in answers]})


def read_receipt(value: str) -> tuple[Answer, ...]:
    """The answers that an input holds; raises ValueError for anything else."""
    listed = _read_object(value).get("answers")
    if not isinstance(listed, list):
        raise ValueError("a receipt without answers")  # noqa: TRY004 - One kind of error, as below.
    try:
        return tuple(Answer(**one) for one in cast("list[dict[str, str]]", listed))  # pyright: ignore[reportArgumentType]
    except TypeError as error:
        raise ValueError(str(error)) from error


def _read_object(value: str) -> Mapping[str, object]:
    found: object = json.loads(value)
    if not isinstance(found, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - Whoever reads what others wrote expects one kind of error.
    return cast("Mapping[str, object]", found)


def _read_nodes(found: object) -> tuple[str, ...]:
    listed = cast("list[object]", found) if isinstance(found, list) else None
    if listed is None or len(listed) > MAX_NODES or not all(isinstance(one, str) and one for one in listed):
        raise ValueError(f"nodes is no list of at most {MAX_NODES} ids")
    return tuple(dict.fromkeys(str(one) for one in listed))


def _read_text(found: object) -> str:
    if not isinstance(found, str) or len(found) > MOST_CHARS:
        raise ValueError(f"text is no text of at most {MOST_CHARS} characters")
    return found


def _cut(found: object) -> str:
    return repr(found)[:80]
