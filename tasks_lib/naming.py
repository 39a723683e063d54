"""Decides which ids are safe, how others are shown, and what branches, resolve files and directories are called."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from tasks_lib.model import RESEARCH_LEVEL, Task
from tasks_lib.text import tell_rest

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")
MAX_ID_BYTES = 150
"""Of UTF-8. File systems take 255 a part, and a branch's prefix, a digest or `.lock` may stand beside the id."""
MAX_MESSAGE = 400
"""Characters of a fault's message; whoever puts a file's own words into one cuts them short besides."""
SHOWN_CHARS = 80
SOME = 3
"""So many of a long list are named in a sentence."""
_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.IGNORECASE)
_DIGITS = 4
"""Of the number at the end of a resolve task's id."""


@lru_cache(maxsize=16_384)
def find_id_fault(task_id: str) -> str | None:
    """Say why `task_id` cannot name a branch and a directory, or None if it can.

    The rules are those of `git check-ref-format`, and besides: nothing that starts with `-` or `.`, and no `@`
    alone, so that no id can become an option, leave its directory or mean another revision. Nothing that cannot be
    seen, and accents in one way of writing them only, because some disks take both for the same name.
    """
    if not task_id:
        return "is empty"
    size = len(task_id.encode("utf-8", "surrogatepass"))
    if size > MAX_ID_BYTES:
        return f"has {size} bytes; at most {MAX_ID_BYTES} fit a branch and a directory"
    if found := _FORBIDDEN.search(task_id):
        return f"holds {found.group()!r}, which git refuses in a branch name"
    if not task_id.isascii() and (fault := _find_unicode_fault(task_id)):
        return fault
    for part in task_id.split("/"):
        if fault := _find_part_fault(part):
            return fault
    return "holds '..' or '@{', which git reads as a revision" if ".." in task_id or "@{" in task_id else None


def find_branch_fault(name: str) -> str | None:
    """Say what git would take a branch of this name for, or None; the name is one that git allows."""
    if name in ("HEAD", "@"):
        return "git reads as what is checked out"
    if name.startswith("-"):
        return "git reads as an option"
    if name.startswith("refs/"):
        return "git reads as a full ref"
    return "git reads as the id of an object" if _OBJECT_ID.fullmatch(name) else None


def _find_unicode_fault(task_id: str) -> str | None:
    if hidden := find_hidden(task_id):
        return f"holds {hidden!a}, which cannot be seen"
    if unicodedata.normalize("NFC", task_id) != task_id:
        return "holds a letter and its accent as two characters; write them as one (Unicode NFC)"
    return None


def find_hidden(text: str) -> str:
    """The first character of `text` that cannot be seen, or `""`."""
    if text.isprintable():
        return ""
    return next(character for character in text if not character.isprintable())


def _find_part_fault(part: str) -> str | None:
    if not part:
        return "has an empty part: take out the leading, trailing or double '/'"
    if part[0] in "-.":
        return f"has a part that starts with {part[0]!r}"
    if part.endswith((".", ".lock")):
        return f"has a part that ends with {'.lock' if part.endswith('.lock') else '.'!r}"
    return "is '@', which git reads as HEAD" if part == "@" else None


def show(text: str, chars: int = SHOWN_CHARS) -> str:
    """`text` on one printable line of at most `chars` characters (10 or more); its middle gives way to `…`."""
    head, tail = chars * 2 // 3, chars - chars * 2 // 3 - 1
    # What escapes makes longer is cut once more below; before, so that a whole file does not have to be gone through.
    short = text if len(text) <= chars else f"{text[:head]}…{text[-tail:]}"
    plain = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in short)
    return plain if len(plain) <= chars else f"{plain[:head]}…{plain[-tail:]}"


def show_some(texts: Sequence[str], most: int = SOME) -> str:
    """The first `most` of `texts`, each as `show` has it, and how many more there are."""
    return ", ".join(show(text) for text in texts[:most]) + tell_rest(len(texts), most)


def flatten(task_id: str) -> str:
    """`task_id` as one path part: `/` as `-`."""
    return task_id.replace("/", "-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def name_branches(
    tasks: Iterable[Task], prefix: str = "feat/", research_prefix: str = "research/", *, target: str
) -> dict[str, str]:
    """Map each id to its branch, none of which is `target`.

    `a` and `a/b` cannot both be refs, nor can twins by case or look on every disk; the longer id, or the later one in
    byte order, then becomes one flat part with a digest of the id, so that its name never depends on the rest.
    """
    by_id = {task.id: task for task in tasks}
    taken: dict[str, str] = {}
    _take(target, taken)
    names: dict[str, str] = {}
    for task_id in sorted(by_id, key=lambda i: (i.count("/"), i)):
        start = research_prefix if by_id[task_id].level == RESEARCH_LEVEL else prefix
        name = start + task_id
        if _collides(_fold(name), taken):
            name = _find_free(f"{start}{flatten(task_id)}", task_id, taken)
        _take(name, taken)
        names[task_id] = name
    return names


def _find_free(stem: str, task_id: str, taken: dict[str, str]) -> str:
    """`stem` with a digest of the id; with another one where somebody gave a task exactly that name."""
    usual = f"{stem}.{_digest(task_id)}"
    others = (f"{stem}.{_digest(f'{task_id} {number}')}" for number in range(1, len(taken) + 1))
    return next((name for name in (usual, *others) if _fold(name) not in taken), usual)


def _take(name: str, taken: dict[str, str]) -> None:
    parts = _fold(name).split("/")
    taken["/".join(parts)] = "ref"
    for depth in range(1, len(parts)):
        taken.setdefault("/".join(parts[:depth]), "directory")


def find_collision(branch: str, names: Iterable[str]) -> str | None:
    """The first of `names` that cannot be a branch beside `branch` on every disk, or None."""
    ours = _fold(branch)
    for name in names:
        other = _fold(name)
        if ours == other or ours.startswith(f"{other}/") or other.startswith(f"{ours}/"):
            return name
    return None


def _fold(name: str) -> str:
    """What a disk may take `name` for: without case, and with look-alikes of one letter as that letter."""
    if name.isascii():
        return name.casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _collides(name: str, taken: dict[str, str]) -> bool:
    parts = name.split("/")
    above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return name in taken or any(taken.get(part) == "ref" for part in above)


def name_resolve_task(blocked_id: str, existing: Iterable[str]) -> str:
    """The next free id `resolve-<id>-<n>` for a node that is blocked; `existing` are the ids of the graph.

    An id that leaves no room has its end replaced by a digest.
    """
    stem = f"resolve-{flatten(blocked_id)}-"
    room = MAX_ID_BYTES - _DIGITS
    if len(stem.encode()) > room:
        digest = _digest(blocked_id)
        start = stem.encode()[: room - len(digest) - 2].decode("utf-8", "ignore")
        stem = f"{start}-{digest}-"
    taken = set(existing)
    number = 1
    while f"{stem}{number}" in taken:
        number += 1
    return f"{stem}{number}"


def is_resolve_task(task_id: str) -> bool:
    """Whether `task_id` was made, by us or by hand, to resolve what blocks another node."""
    return task_id.startswith("resolve-")
