"""Decides which ids are valid, how text is shown in messages, and how branches and resolve tasks are named."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from tasks_lib.model import RESEARCH_LEVEL, Task
from tasks_lib.text import tell_rest

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")
MAX_ID_BYTES = 150
"""In UTF-8. File systems allow 255 per path part, which must also fit a branch prefix, a digest or `.lock`."""
MAX_MESSAGE = 400
"""Maximum characters in a fault's message; text quoted from a file is shortened separately."""
SHOWN_CHARS = 80
SOME = 3
"""How many items of a long list a sentence names."""
_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.IGNORECASE)
_DIGITS = 4
"""Room for the number at the end of a resolve task's id."""


@lru_cache(maxsize=16_384)
def find_id_fault(task_id: str) -> str | None:
    """Say why `task_id` cannot name a branch and a directory, or None if it can.

    In addition to the rules of `git check-ref-format`, no part may start with `-` or `.` or be `@`, so that an id
    can never be read as an option, leave its directory or name another revision. Invisible characters are not allowed,
    and accents must be in NFC, because some file systems treat both forms as the same name.
    """
    if not task_id:
        return "is empty"
    size = len(task_id.encode("utf-8", "surrogatepass"))
    if size > MAX_ID_BYTES:
        return f"has {size} bytes; the limit is {MAX_ID_BYTES}, so that it fits a branch and a directory"
    if found := _FORBIDDEN.search(task_id):
        return f"contains {found.group()!r}, which git does not allow in a branch name"
    if not task_id.isascii() and (fault := _find_unicode_fault(task_id)):
        return fault
    for part in task_id.split("/"):
        if fault := _find_part_fault(part):
            return fault
    return "contains '..' or '@{', which git reads as a revision" if ".." in task_id or "@{" in task_id else None


def find_branch_fault(name: str) -> str | None:
    """Say what git would read this valid branch name as instead of a branch, or None."""
    if name in ("HEAD", "@"):
        return "git reads as the current checkout"
    if name.startswith("-"):
        return "git reads as an option"
    if name.startswith("refs/"):
        return "git reads as a full ref"
    return "git reads as an object id" if _OBJECT_ID.fullmatch(name) else None


def _find_unicode_fault(task_id: str) -> str | None:
    if hidden := find_hidden(task_id):
        return f"contains the invisible character {hidden!a}"
    if unicodedata.normalize("NFC", task_id) != task_id:
        return "contains a letter and its accent as two characters; write them as one (Unicode NFC)"
    return None


def find_hidden(text: str) -> str:
    """The first unprintable character of `text`, or `""`."""
    if text.isprintable():
        return ""
    return next(character for character in text if not character.isprintable())


def _find_part_fault(part: str) -> str | None:
    if not part:
        return "has an empty part: remove the leading, trailing or double '/'"
    if part[0] in "-.":
        return f"has a part that starts with {part[0]!r}"
    if part.endswith((".", ".lock")):
        return f"has a part that ends with {'.lock' if part.endswith('.lock') else '.'!r}"
    return "is '@', which git reads as HEAD" if part == "@" else None


def show(text: str, chars: int = SHOWN_CHARS) -> str:
    """`text` on one printable line of at most `chars` characters (10 or more), with `…` for a middle that is cut."""
    head, tail = chars * 2 // 3, chars - chars * 2 // 3 - 1
    # Shortened first, so that a whole file is never escaped, and again below, because escapes make it longer.
    short = text if len(text) <= chars else f"{text[:head]}…{text[-tail:]}"
    plain = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in short)
    return plain if len(plain) <= chars else f"{plain[:head]}…{plain[-tail:]}"


def show_some(texts: Sequence[str], most: int = SOME) -> str:
    """The first `most` of `texts`, each passed through `show`, and how many more there are."""
    return ", ".join(show(text) for text in texts[:most]) + tell_rest(len(texts), most)


def flatten(task_id: str) -> str:
    """`task_id` as one path part: `/` becomes `-`."""
    return task_id.replace("/", "-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def name_branches(
    tasks: Iterable[Task], prefix: str = "feat/", research_prefix: str = "research/", *, target: str
) -> dict[str, str]:
    """Map each id to its branch, none of which is `target`.

    `a` and `a/b` cannot both be refs, and on some file systems neither can names that differ only by case or by
    look-alike letters. In such a pair the longer id, or the later one in byte order, is flattened and gets a digest of
    the id, so that its name does not depend on the other tasks.
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
    """`stem` with a digest of the id, or with another digest if that name is taken."""
    usual = f"{stem}.{_digest(task_id)}"
    others = (f"{stem}.{_digest(f'{task_id} {number}')}" for number in range(1, len(taken) + 1))
    return next((name for name in (usual, *others) if _fold(name) not in taken), usual)


def _take(name: str, taken: dict[str, str]) -> None:
    parts = _fold(name).split("/")
    taken["/".join(parts)] = "ref"
    for depth in range(1, len(parts)):
        taken.setdefault("/".join(parts[:depth]), "directory")


def find_collision(branch: str, names: Iterable[str]) -> str | None:
    """The first of `names` that cannot exist as a branch next to `branch` on every file system, or None."""
    ours = _fold(branch)
    for name in names:
        other = _fold(name)
        if ours == other or ours.startswith(f"{other}/") or other.startswith(f"{ours}/"):
            return name
    return None


def _fold(name: str) -> str:
    """`name` without case, and with look-alike letters unified: what some file systems compare."""
    if name.isascii():
        return name.casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _collides(name: str, taken: dict[str, str]) -> bool:
    parts = name.split("/")
    above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return name in taken or any(taken.get(part) == "ref" for part in above)


def name_resolve_task(blocked_id: str, existing: Iterable[str]) -> str:
    """The next free id `resolve-<id>-<n>` for a blocked node; `existing` are the ids of the graph.

    The end of an id that is too long is replaced by a digest.
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


def name_follow_ups(task_id: str) -> str:
    """What the id of each follow-up task of `task_id` begins with; a number ends it."""
    return f"follow-up-{flatten(task_id)[-100:]}-"


def is_resolve_task(task_id: str) -> bool:
    """Whether `task_id` is a resolve task, made by the coordinator or by the user to unblock another node."""
    return task_id.startswith("resolve-")
