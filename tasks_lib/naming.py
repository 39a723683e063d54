"""Decides which ids are safe, and what branches, resolve files and directories are called after them."""

import hashlib
import re
from collections.abc import Iterable

from tasks_lib.model import RESEARCH_LEVEL, Task

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")
MAX_ID_CHARS = 150
"""Longer ids make paths that some file systems refuse."""


def find_id_fault(task_id: str) -> str | None:
    """Say why `task_id` cannot name a branch and a directory, or None if it can.

    The rules are those of `git check-ref-format`, and besides: nothing that starts with `-` or `.`, and no `@`
    alone, so that no id can become an option, leave its directory or mean another revision.
    """
    if not task_id:
        return "is empty"
    if len(task_id) > MAX_ID_CHARS:
        return f"has {len(task_id)} characters; at most {MAX_ID_CHARS} fit a branch and a directory"
    if found := _FORBIDDEN.search(task_id):
        return f"holds {found.group()!r}, which git refuses in a branch name"
    for part in task_id.split("/"):
        if fault := _find_part_fault(part):
            return fault
    return "holds '..' or '@{', which git reads as a revision" if ".." in task_id or "@{" in task_id else None


def _find_part_fault(part: str) -> str | None:
    if not part:
        return "has an empty part: take out the leading, trailing or double '/'"
    if part[0] in "-.":
        return f"has a part that starts with {part[0]!r}"
    if part.endswith((".", ".lock")):
        return f"has a part that ends with {'.lock' if part.endswith('.lock') else '.'!r}"
    return "is '@', which git reads as HEAD" if part == "@" else None


def flatten(task_id: str) -> str:
    """`task_id` as one path part: `/` as `-`."""
    return task_id.replace("/", "-")


def _digest(task_id: str) -> str:
    return hashlib.sha256(task_id.encode()).hexdigest()[:8]


def name_branches(tasks: Iterable[Task], prefix: str = "feat/", research_prefix: str = "research/") -> dict[str, str]:
    """Map each id to its branch.

    `a` and `a/b` cannot both be refs, nor can twins by case on every disk; the longer id, or the later one in
    byte order, then becomes one flat part with a digest of the id, so that its name never depends on the rest.
    """
    by_id = {task.id: task for task in tasks}
    taken: dict[str, str] = {}
    names: dict[str, str] = {}
    for task_id in sorted(by_id, key=lambda i: (i.count("/"), i)):
        start = research_prefix if by_id[task_id].level == RESEARCH_LEVEL else prefix
        name = start + task_id
        if _collides(name.casefold(), taken):
            name = f"{start}{flatten(task_id)}.{_digest(task_id)}"
        parts = name.casefold().split("/")
        taken[name.casefold()] = "ref"
        for depth in range(1, len(parts)):
            taken.setdefault("/".join(parts[:depth]), "directory")
        names[task_id] = name
    return names


def _collides(name: str, taken: dict[str, str]) -> bool:
    parts = name.split("/")
    above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return name in taken or any(taken.get(part) == "ref" for part in above)


def name_resolve_task(blocked_id: str, existing: Iterable[str]) -> str:
    """The next free id `resolve-<id>-<n>` for a node that is blocked; `existing` are the ids of the graph."""
    stem = f"resolve-{flatten(blocked_id)}-"
    taken = set(existing)
    number = 1
    while f"{stem}{number}" in taken:
        number += 1
    return f"{stem}{number}"


def is_resolve_task(task_id: str) -> bool:
    """Whether `task_id` was made, by us or by hand, to resolve what blocks another node."""
    return task_id.startswith("resolve-")
