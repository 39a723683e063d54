"""Finds which lines of a task file changed by comparing text, independently of how the coordinator edits them."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import yaml

_STATUS = re.compile(rb"^(status\s*:\s*)([\"']?)([A-Za-z][A-Za-z _-]*?)(\2)([ \t]*(?:#.*)?)(\r?\n?)$")
_KEY = re.compile(rb"^[A-Za-z_][\w-]*\s*:")
_NEEDED = re.compile(rb"^(depends_on|dependsOn)\s*:")
_FENCE = re.compile(rb"^ {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(rb"^ {0,3}(#{1,2})[ \t]+(.*?)[ \t]*#*[ \t]*\r?\n?$")
MEANT_SECTIONS = (b"notes", b"summary")


@dataclass(frozen=True, slots=True)
class TaskText:
    """The parts of a task file that the checker reads."""

    id: str
    name: str
    status: str
    depends_on: tuple[str, ...]
    level: str
    spawned_by: str = ""


@cache
def read_task(data: bytes) -> TaskText | None:
    """Parse the task file in `data`; None if it has no front matter with an id.

    Most commits of a history change one of its task files, and each is judged with all of them.
    """
    front, _ = split_front(data)
    if front is None:
        return None
    try:
        loaded = yaml.safe_load(b"".join(front))
    except yaml.YAMLError:
        return None
    if not isinstance(loaded, dict):
        return None
    found = cast("dict[str, Any]", loaded)
    if not isinstance(found.get("id"), str):
        return None
    needed = cast("list[Any]", found.get("depends_on", found.get("dependsOn")) or [])
    name = str(found.get("name", found.get("title", "")))
    status = str(found.get("status", "pending"))
    words = (str(found.get(key) or "") for key in ("level", "spawned_by"))
    return TaskText(found["id"], name, status, tuple(str(one) for one in needed), *words)


def split_front(data: bytes) -> tuple[list[bytes] | None, list[bytes]]:
    """Split into the front matter's lines without its `---` lines (None if it has none) and the lines after it."""
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    if not lines or lines[0].rstrip() != b"---":
        return None, lines
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == b"---":
            return lines[1:number], lines[number + 1 :]
    return None, lines


def find_text_faults(before: bytes, after: bytes, *, may_need: Sequence[str] = (), may_drop: bool = False) -> list[str]:
    """Describe what changed from `before` to `after` besides the status, Notes and Summary.

    `may_need` are ids that may have been added to `depends_on`. With `may_drop`, criteria may be gone, and some have to.
    """
    front_before, body_before = split_front(before)
    front_after, body_after = split_front(after)
    if front_before is None or front_after is None:
        return ["the front matter is gone"]
    faults = _compare_front(front_before, front_after, may_need)
    old, new = _take_sections_out(body_before), _take_sections_out(body_after)
    if may_drop:
        faults += _compare_dropped(old, new)
    elif old != new:
        faults.append("the body changed outside Notes and Summary")
    if before[:3] != after[:3]:
        faults.append("the byte order mark changed")
    return faults + _compare_endings(before, after)


def find_adoption_faults(before: bytes, after: bytes, spawner: str) -> list[str]:
    """Describe what changed besides one new line in the front matter that says who spawned the task."""
    old, new = before.splitlines(), after.splitlines()
    added = [line for line in new if line.strip().startswith(b"spawned_by:")]
    rest = [line for line in new if line not in added]
    task = read_task(after)
    is_right = len(added) == 1 and task is not None and task.spawned_by == spawner
    return [] if is_right and rest == old else [f"more changed than spawned_by: {added}"]


def _compare_front(before: list[bytes], after: list[bytes], may_need: Sequence[str]) -> list[str]:
    faults: list[str] = []
    rest_before, needed_before = _take_needed_out(before)
    rest_after, needed_after = _take_needed_out(after)
    plain_before, plain_after = _blank_status(rest_before), _blank_status(rest_after)
    if not any(_STATUS.match(line) for line in rest_before):
        plain_after = [line for line in plain_after if not line.startswith(b"status")]
    if plain_before != plain_after:
        changed = next((b for a, b in zip(plain_before, plain_after, strict=False) if a != b), b"(the number of lines)")
        faults.append(f"the front matter changed beside the status: {changed!r}")
    if needed_before != needed_after:
        faults += _compare_needed(needed_before, needed_after, may_need)
    return faults


def _compare_dropped(before: bytes, after: bytes) -> list[str]:
    """Only items of the acceptance criteria may be gone, and at least one is; one is left."""
    gone = [line for line in difflib.ndiff(before.decode().split("\n"), after.decode().split("\n")) if line[0] in "+-"]
    criteria = before.decode().partition("## Acceptance Criteria\n")[2].partition("\n## ")[0].split("\n")
    items = [line for line in criteria if line.startswith("- ")]
    wrong = [line for line in gone if line[0] == "+" or line[2:] not in criteria or not line[2:].strip()]
    if wrong:
        return [f"the body changed beside its criteria: {wrong[0]!r}"]
    dropped = [line for line in gone if line[2:] in items]
    return [] if 0 < len(dropped) < len(items) else [f"{len(dropped)} of {len(items)} criteria are gone"]


def _blank_status(lines: list[bytes]) -> list[bytes]:
    return [_STATUS.sub(rb"\1\2?\4\5\6", line) for line in lines]


def _take_needed_out(front: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Split the front matter into the other lines and those of `depends_on`."""
    start = next((n for n, line in enumerate(front) if _NEEDED.match(line)), None)
    if start is None:
        return front, []
    end = start + 1
    while end < len(front) and not _KEY.match(front[end]) and not front[end].startswith(b"#"):
        end += 1
    return front[:start] + front[end:], front[start:end]


def _compare_needed(before: list[bytes], after: list[bytes], may_need: Sequence[str]) -> list[str]:
    if not may_need:
        return ["depends_on changed"]
    old, new = _read_needed(before), _read_needed(after)
    if new != [*old, *may_need]:
        return [f"depends_on was {old} and is {new}; only {', '.join(may_need)} may be added, at the end"]
    comments = re.findall(rb"#[^\r\n]*", b"".join(before))
    if lost := [comment for comment in comments if comment not in b"".join(after)]:
        return [f"depends_on lost its comment {lost[0]!r}"]
    parts_before, parts_after = _split_list(before), _split_list(after)
    if not all(part in parts_after for part in parts_before):
        return ["depends_on was written anew: what its list held is written differently"]
    return []


def _split_list(lines: list[bytes]) -> list[bytes]:
    """The items of a list: of a block list its lines with indentation, of a flow list its words with quotes."""
    if any(line.lstrip().startswith(b"- ") for line in lines):
        return [line.rstrip() for line in lines[1:]]
    return re.findall(rb"[^\s,\[\]]+", b"".join(lines))


def _read_needed(lines: list[bytes]) -> list[str]:
    try:
        loaded: Any = yaml.safe_load(b"".join(lines)) if lines else None
    except yaml.YAMLError:
        return ["(unreadable)"]
    values = list(cast("dict[str, Any]", loaded).values()) if isinstance(loaded, dict) else [None]
    return [str(one) for one in cast("list[Any]", values[0] or [])]


def _take_sections_out(body: list[bytes]) -> bytes:
    """The body without Notes, Summary and trailing whitespace (a section may be appended there)."""
    kept: list[bytes] = []
    fence = b""
    is_meant = False
    for line in body:
        if mark := _FENCE.match(line):
            fence = _follow_fence(fence, mark[1], line)
        elif not fence and (heading := _HEADING.match(line)):
            is_meant = heading[1] == b"##" and heading[2].lower() in MEANT_SECTIONS
        if not is_meant:
            kept.append(line)
    return b"".join(kept).rstrip()


def _follow_fence(fence: bytes, mark: bytes, line: bytes) -> bytes:
    if not fence:
        return mark
    closes = mark[:1] == fence[:1] and len(mark) >= len(fence) and line.strip() == mark
    return b"" if closes else fence


def _compare_endings(before: bytes, after: bytes) -> list[str]:
    """A file with a single kind of line ending keeps it."""
    crlf, lf = before.count(b"\r\n"), before.count(b"\n")
    if crlf and crlf == lf and after.count(b"\r\n") != after.count(b"\n"):
        return ["lines end with LF in a file of CRLF"]
    if lf and not crlf and b"\r\n" in after:
        return ["lines end with CRLF in a file of LF"]
    return []
