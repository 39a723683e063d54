"""Moves acceptance criteria out of a task file; no other line of it changes."""

import re
from collections.abc import Sequence

from tasks_lib.taskfile.sections import get_section, set_section
from tasks_lib.text import fold

HEADING = "Acceptance Criteria"
MIN_START_CHARS = 12
"""A criterion may be named by its beginning, if that is this long and only one begins so."""
_ITEM = re.compile(r"^[-*+]\s+(?:\[(?P<mark>[ xX])\]\s+)?(?P<text>\S.*)$")


def list_criteria(text: str) -> list[str]:
    """The top-level items below `## Acceptance Criteria`, each on one line, in order."""
    return [" ".join(item) for item, _ in _read_items(text)]


def drop_criteria(text: str, names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """`text` without the criteria that `names` says, and those criteria, in order.

    A name is the criterion's text or an unambiguous beginning; names that fit none are ignored. Nothing is dropped if
    no criterion would be left.
    """
    items = _read_items(text)
    known = [" ".join(item) for item, _ in items]
    chosen = {at for name in names for at in [_find(known, name)] if at is not None}
    if not chosen or len(chosen) == len(items):
        return text, ()
    gone = {number for at in chosen for number in items[at][1]}
    lines = (get_section(text, HEADING) or "").splitlines()
    body = "\n".join(line for number, line in enumerate(lines) if number not in gone)
    return set_section(text, HEADING, body), tuple(known[at] for at in sorted(chosen))


def _find(known: Sequence[str], name: str) -> int | None:
    wanted = _flatten(name)
    same = [at for at, one in enumerate(known) if _flatten(one) == wanted]
    if not same and len(wanted) >= MIN_START_CHARS:
        same = [at for at, one in enumerate(known) if _flatten(one).startswith(wanted)]
    return same[0] if len(same) == 1 else None


def _flatten(text: str) -> str:
    found = _ITEM.match(text.strip())
    return fold(found["text"] if found else text).casefold().strip(" .`\"'")


def _read_items(text: str) -> list[tuple[list[str], list[int]]]:
    """Each top-level list item: its words line by line, and the numbers of its lines within the section."""
    items: list[tuple[list[str], list[int]]] = []
    for number, line in enumerate((get_section(text, HEADING) or "").splitlines()):
        if found := _ITEM.match(line):
            items.append(([found["text"].strip()], [number]))
        elif items and line.startswith((" ", "\t")) and line.strip():
            items[-1][0].append(line.strip())
            items[-1][1].append(number)
    return items
