"""Reads what blocks a node as a typed record from an agent's free text, and writes the record as markdown.

The text stays word by word; a field is only another view of it. Nothing that an agent writes is an error.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks_lib.model import BlockerKind
from tasks_lib.text import cut, fold

MAX_FIELD_CHARS = 1_000
"""How much of a field is shown outside the text that it was read from."""
_NAMES: Mapping[str, str] = {
    "kind": "kind", "type": "kind", "blocker kind": "kind",
    "what": "what", "problem": "what", "question": "what", "reason": "what",
    "error": "error", "exact error": "error", "error message": "error",
    "tried": "tried", "what i tried": "tried", "attempted": "tried",
    "suggested": "suggested", "suggestion": "suggested", "suggested resolution": "suggested", "needed": "suggested",
    "would resolve": "suggested", "what would resolve it": "suggested",
}  # fmt: skip
_KINDS: Mapping[str, BlockerKind] = {
    **{str(kind): kind for kind in BlockerKind},
    "information": BlockerKind.CONTEXT, "ambiguous": BlockerKind.CONTEXT, "dependencies": BlockerKind.DEPENDENCY,
    "env": BlockerKind.ENVIRONMENT, "permission": BlockerKind.DECISION,
}  # fmt: skip
_LINE = re.compile(
    r"\s*(?P<mark>#{1,6}\s+)?(?:[-*+>]\s+|\d{1,3}[.)]\s+)*[*_`]{0,3}(?P<name>[A-Za-z][A-Za-z ]{2,30}?)[*_`]{0,3}\s*"
    r"(?:(?P<colon>:)[*_`]{0,3}(?P<value>.*)|\Z)"
)
_HEADING = re.compile(r"^\s*#{1,6}\s")


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why a node is blocked: `reason` in one sentence, and `text`, every word that was said besides, "" for none.

    `error`, `tried` and `suggested` are "" where nothing was said. A blocker that `needs_person` asks for what only a
    person may give, such as an approval or a higher budget.
    """

    reason: str
    kind: BlockerKind = BlockerKind.CONTEXT
    error: str = ""
    tried: str = ""
    suggested: str = ""
    text: str = ""
    needs_person: bool = False


def parse_blocker(reason: str, text: str = "", *, notes: str = "", kind: BlockerKind = BlockerKind.CONTEXT) -> Blocker:
    """Read a blocker from the `reason` that an agent gave, its `notes` in the task file, and the rest of its `text`.

    A field is taken from the first of these that has it. `kind` is the kind of a blocker that names none. The notes are
    not part of the blocker's text.
    """
    fields: dict[str, str] = {}
    for source in (reason, notes, text):
        for name, value in find_fields(source).items():
            fields.setdefault(name, value)
    said = reason.strip()
    sentence = _find_sentence(said, fields)
    texts = (said if sentence != said else "", text.strip())
    return Blocker(
        sentence,
        parse_kind(fields.get("kind", "")) or kind,
        fields.get("error", ""),
        fields.get("tried", ""),
        fields.get("suggested", ""),
        "\n\n".join(one for one in texts if one),
    )


def write_blocker(blocker: Blocker) -> tuple[str, ...]:
    """`blocker` as texts, for the record of a node."""
    said = (blocker.reason, str(blocker.kind), blocker.error, blocker.tried, blocker.suggested, blocker.text)
    return (*said, "person") if blocker.needs_person else said


def read_blocker(texts: Sequence[str]) -> Blocker | None:
    """The blocker that `write_blocker` wrote, None if it is not one."""
    if len(texts) < 6:
        return None
    reason, kind, error, tried, suggested, text = texts[:6]
    known = parse_kind(kind) or BlockerKind.CONTEXT
    return Blocker(reason, known, error, tried, suggested, text, needs_person="person" in texts[6:])


def parse_kind(text: str) -> BlockerKind | None:
    """The first kind that `text` names, None if it names none."""
    words = (_KINDS.get(word) for word in re.findall(r"[a-z]+", text.casefold()))
    return next((kind for kind in words if kind), None)


def find_fields(text: str, names: Mapping[str, str] = _NAMES) -> dict[str, str]:
    """Read the lines `Name: value` of `text`, also in lists and as headings; the first of each name counts.

    `names` maps each way to write a name, in lower case, to the field. A value ends at the next field or heading.
    """
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in text.splitlines():
        start = _read_start(line, names)
        if start:
            lines = [start[1]]
            found.setdefault(start[0], lines)
        elif _HEADING.match(line):
            lines = None
        elif lines is not None:
            lines.append(line)
    values = {name: "\n".join(lines).strip() for name, lines in found.items()}
    return {name: value for name, value in values.items() if value}


def _read_start(line: str, names: Mapping[str, str]) -> tuple[str, str] | None:
    """The field that begins on `line`, and the value on the same line; None if none does."""
    found = _LINE.fullmatch(line)
    name = names.get(found["name"].strip().casefold(), "") if found else ""
    if not found or not name or not (found["colon"] or found["mark"]):
        return None
    return name, (found["value"] or "").strip()


def _find_sentence(said: str, fields: Mapping[str, str]) -> str:
    """The reason in one sentence: all of `said` if it has no fields, else what is blocked in the agent's words."""
    first = next((line.strip() for line in said.splitlines() if line.strip()), "")
    if not find_fields(said):
        return said if "\n\n" not in said else first
    if not _read_start(first, _NAMES):
        return first
    named = next((fields[name] for name in ("what", "error", "suggested", "tried") if name in fields), "")
    return fold(named) or first


def list_lines(blocker: Blocker) -> list[str]:
    """The record as a markdown list, for the Notes of a task file; each field on one line."""
    rows: Sequence[tuple[str, str]] = (
        ("Kind", str(blocker.kind)),
        ("Error", blocker.error),
        ("Tried", blocker.tried),
        ("Suggested", blocker.suggested),
    )
    return [f"- {name}: {cut(fold(value), MAX_FIELD_CHARS)}" for name, value in rows if value]


def write_criterion(blocker: Blocker) -> str:
    """What unblocks the node, as an acceptance criterion on one line; "" if the agent did not say."""
    return cut(fold(blocker.suggested), MAX_FIELD_CHARS)
