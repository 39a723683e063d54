"""Decides how an agent's summary stands in a report: as plain paragraphs, apart from what is generated."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.reporting.run_facts import Evidence, RunFacts
from tasks_lib.text import drop_controls, fold

MAX_BYTES = 1_500
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
"""Control sequences of terminals, such as colors and titles."""
_TAGS = re.compile(r"<!--.*?(?:-->|\Z)|</?[a-zA-Z!?][^<>]*>", re.DOTALL)
_MARKS = re.compile(r"(?:[#>|=~`*+_-]+(?=\s|$)|[=~`]{3,}|\d{1,9}[.)](?=\s)|[|>#]+|\s)+")
"""What begins a heading, a quotation, a list, a table, a code block or a line across the page."""
_LISTED = re.compile(r"[*+-]\s|\d{1,9}[.)]\s")
_BRACKETS = str.maketrans("[]<", "()‹")
"""Without brackets there are no links, images, tags, or words that look like evidence."""
_HIDDEN = ("Cf", "Co", "Cn", "Cs")
"""Categories of characters that are not seen or that change the direction of others."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What an agent with `role` wrote about a run, as `tidy` leaves it; `model` is "" if it is not known."""

    role: str
    model: str
    text: str
    evidence: tuple[Evidence, ...] = ()


def find_summary(facts: RunFacts) -> Summary | None:
    """The summary that was written last."""
    found = list(facts.of(JournalEvent.SUMMARIZED))
    if not found:
        return None
    last = found[-1]
    return Summary(last.text("role"), last.text("model"), tidy(last.text("text")), (last.evidence,))


def tidy(answer: str) -> str:
    """`answer` as paragraphs of plain text with an empty line in between, at most `MAX_BYTES` in UTF-8.

    Nothing in it can begin a section, a table or a list, embed or link anything, or move a terminal's cursor.
    """
    plain = drop_controls(_ESCAPES.sub("", answer))
    plain = "".join(one for one in plain if unicodedata.category(one) not in _HIDDEN)
    plain = _TAGS.sub("", plain).translate(_BRACKETS)
    return _cut_bytes("\n\n".join(_list_paragraphs(plain)))


def _list_paragraphs(text: str) -> Iterator[str]:
    gathered: list[str] = []
    is_heading = False
    for line in (*text.splitlines(), ""):
        bare = line.strip()
        if gathered and (is_heading or not bare or _LISTED.match(bare) or bare.startswith("#")):
            yield fold(" ".join(gathered))
            gathered = []
        is_heading = bare.startswith("#")
        words = _strip_marks(bare)
        if words:
            gathered.append(words)


def _strip_marks(line: str) -> str:
    found = _MARKS.match(line)
    return line[found.end() :] if found else line


def _cut_bytes(text: str) -> str:
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_BYTES:
        return text
    return data[: MAX_BYTES - 3].decode("utf-8", "ignore").rstrip() + "…"
