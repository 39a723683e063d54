"""Reads a patch as the edits of files that a coding agent would make, one text for another."""

from dataclasses import dataclass

NOWHERE = "/dev/null"


@dataclass(frozen=True, slots=True)
class Edit:
    """In the file `path` the text `old` becomes `new`; a file that is new has no `old`."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Change:
    """All edits of one file."""

    path: str
    is_new: bool
    edits: tuple[Edit, ...]


def read_patch(text: str) -> list[Change]:
    """The changes of a patch as git writes it, for text files that are added or edited and end with a line's end."""
    return [_read_file(part) for part in text.split("diff --git ")[1:]]


def _read_file(part: str) -> Change:
    head, *hunks = part.split("\n@@ ")
    lines = head.splitlines()
    before = next(line.removeprefix("--- ") for line in lines if line.startswith("--- "))
    path = next(line.removeprefix("+++ b/") for line in lines if line.startswith("+++ "))
    return Change(path, before == NOWHERE, tuple(_read_hunk(path, hunk) for hunk in hunks))


def _read_hunk(path: str, hunk: str) -> Edit:
    # The hunk's own first line has the numbers, and git's guess at the function around it.
    body = [line for line in hunk.splitlines()[1:] if line[:1] in {" ", "-", "+"} or not line]
    old = [line[1:] for line in body if not line.startswith("+")]
    new = [line[1:] for line in body if not line.startswith("-")]
    return Edit(path, _join(old), _join(new))


def _join(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
