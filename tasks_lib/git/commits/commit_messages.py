"""Writes and reads the messages of the coordinator's own commits: subjects, bodies and trailers."""

import re
from collections.abc import Mapping

from tasks_lib.text import cut, drop_controls, fold

BODY_CHARS = 2000
"""A Summary is meant to be read in the task file; a log wants its beginning."""
REASON_CHARS = 72
TASK, ATTEMPT, RUN, SESSION = "Task", "Attempt", "Run", "Session"
VERIFIED, REVIEWED, SPENT = "Verified", "Reviewed", "Spent"
_TRAILER = re.compile(r"^([A-Z][A-Za-z-]*): ?(.*)$")


def make_line(text: str) -> str:
    """`text` on one line, without control characters."""
    return fold(drop_controls(text))


def write_message(subject: str, body: str, trailers: Mapping[str, str]) -> str:
    """A commit message: `subject` folded, `body` cut at BODY_CHARS, and the trailers as the last paragraph.

    Trailers without a value are left out.
    """
    lines = [f"{name}: {make_line(value)}" for name, value in trailers.items() if make_line(value)]
    paragraphs = [make_line(subject), cut(drop_controls(body).strip(), BODY_CHARS), "\n".join(lines)]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def read_trailers(message: str) -> dict[str, str]:
    """The trailers of `message`: its last paragraph, if every line of it is one and it is not the subject."""
    paragraphs = re.split(r"\n[ \t]*\n", message.rstrip("\n"))
    if len(paragraphs) == 1:
        return {}
    found = [_TRAILER.match(line) for line in paragraphs[-1].split("\n")]
    return {match[1]: match[2].strip() for match in found if match} if all(found) else {}


def find_value(message: str, name: str) -> str:
    """What the first line `name: …` of `message` says, "" for none.

    For commits that an agent rebased or amended, which may no longer end with their trailers.
    """
    lines = (line.partition(": ") for line in message.split("\n"))
    return next((value.strip() for key, _, value in lines if key == name and value), "")


def replace_trailer(message: str, name: str, value: str) -> str:
    """`message` with the value of its trailer `name` replaced; unchanged if it has no such trailer."""
    if name not in read_trailers(message):
        return message
    start, _, last = message.rstrip("\n").rpartition("\n\n")
    lines = [f"{name}: {make_line(value)}" if line.startswith(f"{name}:") else line for line in last.split("\n")]
    return f"{start}\n\n" + "\n".join(lines) + "\n"
