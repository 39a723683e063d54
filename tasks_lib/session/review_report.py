"""Reads a reviewer's report: its findings, the acceptance criteria, and what became of earlier findings."""

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from tasks_lib.model import Verdict
from tasks_lib.text import cut, fold

MAX_FINDINGS = 50
MAX_TEXT = 500
_LINE = re.compile(
    r"^\s*(?:[-*+]|\d+[.)])?\s*\**\[\s*(blocking|note|met|not met|not checkable|answered|open)\s*\]\**\s*(.*\S)\s*$",
    re.IGNORECASE,
)
_PLACE = re.compile(r"^`?([^\s:`]+):(\d{1,7})(?:-\d+)?`?:?\s+(.*)$")
_NUMBER = re.compile(r"^#?(\d{1,3})\b[.:]?\s*(.*)$")


class Mark(StrEnum):
    """What a line of a report is about: a finding, a criterion, or an earlier finding by its number."""

    BLOCKING = "blocking"
    NOTE = "note"
    MET = "met"
    NOT_MET = "not met"
    NOT_CHECKABLE = "not checkable"
    ANSWERED = "answered"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class ReviewFinding:
    """One finding; `path` is relative to the repository, "" if it names none, `line` counts from 1, 0 for none."""

    text: str
    is_blocking: bool
    path: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}: " if self.path else ""
        return f"{place}{self.text}"


@dataclass(frozen=True, slots=True)
class ReviewReport:
    """What a reviewer reported besides the verdict.

    `criteria` maps each acceptance criterion, as the reviewer words it, to MET, NOT_MET or NOT_CHECKABLE. `answered`
    and `open` are earlier findings, by their numbers from 1.
    """

    findings: tuple[ReviewFinding, ...] = ()
    criteria: tuple[tuple[str, Mark], ...] = ()
    answered: frozenset[int] = frozenset()
    open: frozenset[int] = frozenset()


def parse_review(answer: str) -> ReviewReport:
    """The report in `answer`; lines of another form are left to its readers."""
    lines = [(Mark(found[1].lower()), found[2]) for line in answer.splitlines() if (found := _LINE.match(line))]
    findings = [_parse_finding(text, mark) for mark, text in lines if mark in (Mark.BLOCKING, Mark.NOTE)]
    criteria = [(_shorten(text), mark) for mark, text in lines if mark in (Mark.MET, Mark.NOT_MET, Mark.NOT_CHECKABLE)]
    return ReviewReport(
        tuple(findings[:MAX_FINDINGS]),
        tuple(criteria[:MAX_FINDINGS]),
        _list_numbers(lines, Mark.ANSWERED),
        _list_numbers(lines, Mark.OPEN),
    )


def _parse_finding(text: str, mark: Mark) -> ReviewFinding:
    placed = _PLACE.match(text)
    if placed:
        return ReviewFinding(_shorten(placed[3]), mark is Mark.BLOCKING, placed[1], int(placed[2]))
    return ReviewFinding(_shorten(text), mark is Mark.BLOCKING)


def _list_numbers(lines: list[tuple[Mark, str]], wanted: Mark) -> frozenset[int]:
    found = (_NUMBER.match(text) for mark, text in lines if mark is wanted)
    return frozenset(int(one[1]) for one in found if one)


def _shorten(text: str) -> str:
    return cut(fold(text), MAX_TEXT)


def find_objection(verdict: Verdict, report: ReviewReport) -> str:
    """Why work with this review may not land, "" if it may. What the report names counts more than its verdict."""
    if not verdict.is_approval:
        return "the review asks for changes"
    blocking = sum(one.is_blocking for one in report.findings)
    unmet = sum(mark is Mark.NOT_MET for _, mark in report.criteria)
    named = [
        *([_count(blocking, "blocking finding")] if blocking else []),
        *([f"{_count(unmet, 'acceptance criterion', 'acceptance criteria')} not met"] if unmet else []),
        *([f"{_count(len(report.open), 'finding')} of the last review still open"] if report.open else []),
    ]
    return f"the review approves, but names {' and '.join(named)}" if named else ""


def list_open(report: ReviewReport, earlier: tuple[str, ...]) -> tuple[str, ...]:
    """The findings that the next review has to look at: earlier ones that are still open, and the new ones."""
    kept = [text for number, text in enumerate(earlier, 1) if number in report.open]
    return tuple(dict.fromkeys([*kept, *(str(one) for one in report.findings)]))[:MAX_FINDINGS]


def add_open(answer: str, report: ReviewReport, earlier: tuple[str, ...]) -> str:
    """The `answer` of a reviewer with the words of the earlier findings that it calls open by their numbers only."""
    kept = [f"{number}. {text}" for number, text in enumerate(earlier, 1) if number in report.open]
    # Last, because of a long report the end is quoted.
    return "\n".join([answer.rstrip(), "", "Still open from the last review:", *kept]) if kept else answer


def summarize(report: ReviewReport, earlier: tuple[str, ...]) -> str:
    """The report in a few words, for those who watch; "" if it names nothing."""
    marks = Counter(mark for _, mark in report.criteria)
    blocking = sum(one.is_blocking for one in report.findings)
    notes = len(report.findings) - blocking
    answered = sum(number <= len(earlier) for number in report.answered)
    parts = [
        *([f"{marks[Mark.MET]} of {_count(marks.total(), 'criterion', 'criteria')} met"] if marks else []),
        *([f"{marks[Mark.NOT_CHECKABLE]} not checkable"] if marks[Mark.NOT_CHECKABLE] else []),
        *([_count(blocking, "blocking finding")] if blocking else []),
        *([_count(notes, "note")] if notes else []),
        *([f"{answered} of {_count(len(earlier), 'earlier finding')} answered"] if earlier else []),
    ]
    return ", ".join(parts)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"
