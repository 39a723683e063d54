"""Writes and parses the messages of Coordinator's own commits: subjects, bodies and trailers."""

import re
from collections.abc import Mapping

from tasks_lib.text import cut, drop_controls, fold

BODY_CHARS = 2000
"""How much of a Summary goes into the message; the whole of it is in the task file."""
REASON_CHARS = 72
TASK, ATTEMPT, RUN, SESSION = "Task", "Attempt", "Run", "Session"
VERIFIED, REVIEWED, SPENT = "Verified", "Reviewed", "Spent"
PARENT = "Parent"
_TRAILER = re.compile(r"^([A-Z][A-Za-z-]*): ?(.*)$")


def make_line(text: str) -> str:
    """Return `text` on one line, without control characters."""
    return fold(drop_controls(text))


def write_message(subject: str, body: str, trailers: Mapping[str, str]) -> str:
    """Return a commit message: `subject` on one line, `body` cut at BODY_CHARS, the trailers as the last paragraph.

    Trailers with an empty value are left out.
    """
    lines = [f"{name}: {make_line(value)}" for name, value in trailers.items() if make_line(value)]
    paragraphs = [make_line(subject), cut(drop_controls(body).strip(), BODY_CHARS), "\n".join(lines)]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def read_trailers(message: str) -> dict[str, str]:
    """Return the trailers of `message`: its last paragraph, if every line is a trailer and it is not the subject."""
    paragraphs = re.split(r"\n[ \t]*\n", message.rstrip("\n"))
    if len(paragraphs) == 1:
        return {}
    found = [_TRAILER.match(line) for line in paragraphs[-1].split("\n")]
    return {match[1]: match[2].strip() for match in found if match} if all(found) else {}


def find_value(message: str, name: str) -> str:
    """Return the value of the first line `name: …` in `message`, or "".

    Use it for commits that an agent rebased or amended, whose messages may no longer end with the trailers.
    """
    lines = (line.partition(": ") for line in message.split("\n"))
    return next((value.strip() for key, _, value in lines if key == name and value), "")


def replace_trailer(message: str, name: str, value: str) -> str:
    """Return `message` with the value of its trailer `name` replaced; unchanged if it has no such trailer."""
    if name not in read_trailers(message):
        return message
    start, _, last = message.rstrip("\n").rpartition("\n\n")
    lines = [f"{name}: {make_line(value)}" if line.startswith(f"{name}:") else line for line in last.split("\n")]
    return f"{start}\n\n" + "\n".join(lines) + "\n"
