"""Writes and reads the messages of the coordinator's own commits: subjects, bodies and trailers."""

import re
from collections.abc import Mapping

BODY_CHARS = 2000
"""A Summary is meant to be read in the task file; a log wants its beginning."""
REASON_CHARS = 72
TASK, ATTEMPT, RUN, SESSION = "Task", "Attempt", "Run", "Session"
VERIFIED, REVIEWED, SPENT = "Verified", "Reviewed", "Spent"
_TRAILER = re.compile(r"^([A-Z][A-Za-z-]*): ?(.*)$")
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def fold(text: str) -> str:
    """`text` on one line, runs of white space as one space, control characters dropped."""
    return " ".join(clean(text).split())


def clean(text: str) -> str:
    """`text` as any file and log can hold it: no control characters, `\n` alone, no halves of surrogate pairs."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    return _NOT_TEXT.sub("", plain)


def cut(text: str, chars: int) -> str:
    """`text`, at most `chars` long, with an ellipsis where something was cut off."""
    return text if len(text) <= chars else text[: chars - 1].rstrip() + "…"


def write_message(subject: str, body: str, trailers: Mapping[str, str]) -> str:
    """A commit message: `subject` folded, `body` cut at BODY_CHARS, and the trailers as the last paragraph.

    Trailers without a value are left out.
    """
    lines = [f"{name}: {fold(value)}" for name, value in trailers.items() if fold(value)]
    paragraphs = [fold(subject), cut(clean(body).strip(), BODY_CHARS), "\n".join(lines)]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def read_trailers(message: str) -> dict[str, str]:
    """The trailers of `message`: its last paragraph, if every line of it is one and it is not the subject."""
    paragraphs = re.split(r"\n[ \t]*\n", message.rstrip("\n"))
    if len(paragraphs) == 1:
        return {}
    found = [_TRAILER.match(line) for line in paragraphs[-1].split("\n")]
    return {match[1]: match[2].strip() for match in found if match} if all(found) else {}


def replace_trailer(message: str, name: str, value: str) -> str:
    """`message` with the value of its trailer `name` replaced; unchanged if it has no such trailer."""
    if name not in read_trailers(message):
        return message
    start, _, last = message.rstrip("\n").rpartition("\n\n")
    lines = [f"{name}: {fold(value)}" if line.startswith(f"{name}:") else line for line in last.split("\n")]
    return f"{start}\n\n" + "\n".join(lines) + "\n"
