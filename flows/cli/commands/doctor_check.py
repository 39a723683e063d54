"""The result of a `coordinator doctor` check: a level and one sentence, with the fix if one is needed."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """`about` names what was checked in a word or two; `text` says what was found."""

    level: Literal["ok", "warn", "fail"]
    about: str
    text: str


def ok(about: str, text: str) -> Check:
    return Check("ok", about, text)


def warn(about: str, text: str) -> Check:
    return Check("warn", about, text)


def fail(about: str, text: str) -> Check:
    return Check("fail", about, text)
