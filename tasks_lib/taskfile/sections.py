"""Finds and replaces the `## …` sections of a markdown text, leaving every byte outside them unchanged.

A section starts at a level-2 heading (`## Notes`, outside code fences) and ends before the next heading of level 1
or 2. Front matter is skipped. If a heading occurs several times, the first one counts.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tasks_lib.taskfile.frontmatter import find_block

_FENCE = re.compile(r"( {0,3}(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(`{3,}(?=[^`]*$)|~{3,})")
MAX_FENCE_INDENT = 3
"""Markdown treats a line that is indented further as text."""


class _Section(NamedTuple):
    """The line numbers of one section's body: the first line, and the line after the last."""

    first: int
    end: int


class _Fences:
    """Tracks code fences line by line; `closing` is the line that closes the open fence, or "" if none is open."""

    def __init__(self) -> None:
        self.closing: str = ""

    def is_inside(self, line: str) -> bool:
        """Whether `line` (without its ending) belongs to a fenced block, including its opening and closing lines."""
        if not self.closing:
            self._open(line)
            return bool(self.closing)
        mark = self.closing.lstrip(" ")
        words = line.strip(" \t")
        indent = len(line) - len(line.lstrip(" \t"))
        if len(words) >= len(mark) and not words.strip(mark[0]) and indent <= self._item_indent() + MAX_FENCE_INDENT:
            self.closing = ""
        return True

    def _open(self, line: str) -> None:
        if found := _FENCE.match(line):
            # A fence that opens in a list item is closed in the column of the item's text.
            self.closing = (" " * len(found[1].expandtabs(4)) if found[1].strip() else "") + found[2]

    def _item_indent(self) -> int:
        return len(self.closing) - len(self.closing.lstrip(" "))


def get_section(text: str, heading: str) -> str | None:
    """The body below `## <heading>` (ignoring case), with `\\n` endings and without surrounding blank lines.

    None if there is no such section, "" if it is empty.
    """
    lines = _split(text)
    found = _find_sections(lines, _find_body(text), heading)
    return "\n".join(map(_bare, _trim(lines[found[0].first : found[0].end]))) if found else None


def set_section(text: str, heading: str, body: str) -> str:
    """`text` with `body` below `## <heading>`; a missing heading is added at the end.

    `body` gets the line endings of the text. Its headings of level 1 and 2 become level 3, and an open code fence is
    closed, so that it stays one section.
    """
    lines = _split(text)
    found = _find_sections(lines, _find_body(text), heading)
    ending = _find_ending(lines[: found[0].first] if found else lines)
    new = [line + ending for line in _contain(body)]
    return _put(lines, [(found[0], new, ending)]) if found else _append(text, heading, [(new, ending)])


def adopt_sections(onto: str, source: str, headings: Sequence[str] = ("Notes", "Summary")) -> str:
    """`onto` with the bodies of `headings` copied verbatim from `source`, where they exist and differ.

    Repeated headings are matched in order; sections that `onto` lacks are added at its end.
    """
    lines = _split(source)
    for heading in headings:
        found = _find_sections(lines, _find_body(source), heading)
        onto = _adopt(onto, heading, [_trim(lines[theirs.first : theirs.end]) for theirs in found])
    return onto


def _adopt(onto: str, heading: str, bodies: Sequence[Sequence[str]]) -> str:
    """Put each of `bodies` below the heading of its number, unless only the line endings differ."""
    lines = _split(onto)
    found = _find_sections(lines, _find_body(onto), heading)
    usual = _find_ending(lines)
    wanted = [_end_lines(body, usual) for body in bodies]
    changes: list[tuple[_Section, Sequence[str], str]] = []
    for section, body, (new, ending) in zip(found, bodies, wanted, strict=False):
        ours = list(map(_bare, _trim(lines[section.first : section.end])))
        if ours not in (list(map(_bare, body)), list(map(_bare, new))):
            changes.append((section, new, ending))
    text = _put(lines, changes) if changes else onto
    return _append(text, heading, wanted[len(found) :]) if len(wanted) > len(found) else text


def _end_lines(body: Sequence[str], usual: str) -> tuple[list[str], str]:
    """`body` with every line ended and an open fence closed, and the line ending used: its own, else `usual`."""
    ending = _find_ending(body) if any(line.endswith("\n") for line in body) else usual
    new = [line if line.endswith("\n") else line + ending for line in body]
    closing = _find_open_fence(body)
    return ([*new, closing + ending] if closing else new), ending


def _contain(body: str) -> list[str]:
    """The lines of `body`, without endings, changed so that they cannot end the section that contains them."""
    fences = _Fences()
    lines = _trim(body.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    lines = [line if fences.is_inside(line) else _demote(line) for line in lines]
    return [*lines, fences.closing] if fences.closing else lines


def _demote(line: str) -> str:
    heading = _read_heading(line)
    if heading is None or heading[0] > 2:
        return line
    indent, marks, rest = line.partition("#" * heading[0])
    return f"{indent}{marks and '###'}{rest}"


def _read_heading(line: str) -> tuple[int, str] | None:
    """The level and the title of a heading such as `## Notes`, or None."""
    words = line.lstrip(" ")
    level = len(words) - len(words.lstrip("#"))
    if (
        len(line) - len(words) > MAX_FENCE_INDENT
        or not 1 <= level <= 6
        or words[level : level + 1] not in ("", " ", "\t")
    ):
        return None
    title = words[level:].strip(" \t")
    bare = title.rstrip("#")
    return level, bare.rstrip(" \t") if not bare or bare[-1] in " \t" else title


def _find_sections(lines: Sequence[str], body: int, heading: str) -> list[_Section]:
    """Every section called `heading` in the lines from `body` on."""
    fences = _Fences()
    found: list[_Section] = []
    first = -1
    for number in range(body, len(lines)):
        line = _bare(lines[number])
        at = None if fences.is_inside(line) else _read_heading(line)
        if at is None or at[0] > 2:
            continue
        if first >= 0:
            found.append(_Section(first, number))
        first = number + 1 if at[0] == 2 and at[1].casefold() == heading.casefold() else -1
    return [*found, _Section(first, len(lines))] if first >= 0 else found


def _find_body(text: str) -> int:
    """The number, from 0, of the first line after the front matter."""
    block = find_block(text)
    return 0 if block is None or block.end < 0 else text.count("\n", 0, block.end) + 1


def _find_open_fence(lines: Sequence[str]) -> str:
    fences = _Fences()
    for line in lines:
        fences.is_inside(_bare(line))
    return fences.closing


def _put(lines: Sequence[str], changes: Sequence[tuple[_Section, Sequence[str], str]]) -> str:
    """Replace the bodies of sections, given in order, with new lines; each triple ends with their line ending."""
    done = 0
    parts: list[str] = []
    for section, new, ending in changes:
        parts += [*lines[done : section.first], *_make_body(lines, section, new, ending)]
        done = section.end
    return _end_alike("".join([*parts, *lines[done:]]), "".join(lines))


def _make_body(lines: Sequence[str], section: _Section, new: Sequence[str], ending: str) -> list[str]:
    """The new body of `section`: the lines `new`, surrounded by the same blank lines as the old body."""
    old = lines[section.first : section.end]
    core = _trim(old)
    if list(core) == list(new):
        return list(old)
    lead, tail = [ending], list[str]()
    if core:
        at = next(number for number, line in enumerate(old) if not _is_blank(line))
        lead, tail = list(old[:at]), list(old[at + len(core) :])
    if not tail and section.end < len(lines):
        tail = [ending]
    body = [*lead, *new, *tail] if new else tail
    is_heading_open = body and not lines[section.first - 1].endswith("\n")
    return [ending, *body] if is_heading_open else body


def _append(text: str, heading: str, bodies: Sequence[tuple[Sequence[str], str]]) -> str:
    """Add a section for each of `bodies` (lines, and their ending) at the end, after closing an open fence."""
    ending = bodies[0][1]
    lines = _split(text)
    closing = _find_open_fence(lines[_find_body(text) :])
    parts = [text if text.endswith("\n") or not text else text + ending]
    if closing:
        parts.append(closing + ending)
    is_apart = not closing and (not lines or _is_blank(lines[-1]))
    for new, own in bodies:
        parts += [*([] if is_apart else [own]), f"## {heading}{own}", *([own, *new] if new else [])]
        is_apart = False
    return _end_alike("".join(parts), text)


def _end_alike(new: str, old: str) -> str:
    """`new` without its last line ending if `old` has none."""
    return new.removesuffix("\n").removesuffix("\r") if old and not old.endswith("\n") and new.endswith("\n") else new


def _split(text: str) -> list[str]:
    """The lines of `text` with their endings; only `\\n` ends a line."""
    lines = [line + "\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _trim(lines: Sequence[str]) -> list[str]:
    """`lines` without the blank ones at both ends."""
    filled = [number for number, line in enumerate(lines) if not _is_blank(line)]
    return list(lines[filled[0] : filled[-1] + 1]) if filled else []


def _is_blank(line: str) -> bool:
    return not line.strip(" \t\r\n")


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _find_ending(lines: Sequence[str]) -> str:
    """The ending of the last of `lines` that has one."""
    last = next((line for line in reversed(lines) if line.endswith("\n")), "\n")
    return "\r\n" if last.endswith("\r\n") else "\n"
