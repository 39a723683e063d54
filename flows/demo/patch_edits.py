"""Reads a patch as edits that a coding agent would make, replacing one text with another."""

from dataclasses import dataclass

NOWHERE = "/dev/null"


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace `old` with `new` in the file `path`; `old` is empty for a new file."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Change:
    """All edits to one file."""

    path: str
    is_new: bool
    edits: tuple[Edit, ...]


def read_patch(text: str) -> list[Change]:
    """Parse a git patch of added or edited text files that end with a newline."""
    return [_read_file(part) for part in text.split("diff --git ")[1:]]


def _read_file(part: str) -> Change:
    head, *hunks = part.split("\n@@ ")
    lines = head.splitlines()
    before = next(line.removeprefix("--- ") for line in lines if line.startswith("--- "))
    path = next(line.removeprefix("+++ b/") for line in lines if line.startswith("+++ "))
    return Change(path, before == NOWHERE, tuple(_read_hunk(path, hunk) for hunk in hunks))


def _read_hunk(path: str, hunk: str) -> Edit:
    # The first line of a hunk has its line numbers, and git's guess at the enclosing function.
    body = [line for line in hunk.splitlines()[1:] if line[:1] in {" ", "-", "+"} or not line]
    old = [line[1:] for line in body if not line.startswith("+")]
    new = [line[1:] for line in body if not line.startswith("-")]
    return Edit(path, _join(old), _join(new))


def _join(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
