"""What a reviewer's report says besides its verdict, as models write it: with other bullets, bold, or not at all."""

import pytest

from tasks_lib.model import Verdict
from tasks_lib.session.review_report import (
    MAX_FINDINGS,
    Mark,
    ReviewFinding,
    ReviewReport,
    add_open,
    find_objection,
    list_open,
    parse_review,
    summarize,
)

REPORT = """I ran the tests.

- [blocking] src/a.py:12: drops the last row
* **[note]** `src/b.py:3-9`: long function
1. [Blocking] No test covers an empty file
- [met] Rows are kept
- [not met] Empty files are refused: nothing checks them
- [Not checkable] It is fast: no benchmark
- [answered] 1
- [answered] #2 now tested
- [open] 3: still there
- [ ] a task list
[link](x)

Verdict: changes requested
"""


def test_report_is_read_as_models_write_it() -> None:
    assert parse_review(REPORT) == ReviewReport(
        findings=(
            ReviewFinding("drops the last row", True, "src/a.py", 12),
            ReviewFinding("long function", False, "src/b.py", 3),
            ReviewFinding("No test covers an empty file", True),
        ),
        criteria=(
            ("Rows are kept", Mark.MET),
            ("Empty files are refused: nothing checks them", Mark.NOT_MET),
            ("It is fast: no benchmark", Mark.NOT_CHECKABLE),
        ),
        answered=frozenset({1, 2}),
        open=frozenset({3}),
    )


@pytest.mark.parametrize("text", ["", "Looks good.", "- [blocking]", "[blocking", "- [blocking] \n" * 3, "\x00- [x] y"])
def test_other_text_is_an_empty_report(text: str) -> None:
    assert parse_review(text) == ReviewReport()


def test_report_without_end_is_bounded() -> None:
    found = parse_review("\n".join(f"- [note] a.py:{'9' * 5000}: {'x' * 5000}" for _ in range(500)))
    assert len(found.findings) == MAX_FINDINGS
    assert max(len(str(one)) for one in found.findings) < 1000


@pytest.mark.parametrize(
    ("verdict", "report", "objection"),
    [
        (Verdict.APPROVED, "- [note] a.py:1: nit\n- [met] x\n- [not checkable] y", ""),
        (Verdict.APPROVED, "", ""),
        (Verdict.APPROVED_WITH_CHANGES, "- [blocking] a", "the review approves, but names 1 blocking finding"),
        (Verdict.APPROVED, "- [not met] a\n- [not met] b", "but names 2 acceptance criteria not met"),
        (Verdict.APPROVED, "- [open] 1", "but names 1 finding of the last review still open"),
        (Verdict.CHANGES_REQUESTED, "- [met] a", "the review asks for changes"),
    ],
)
def test_what_is_named_counts_more_than_the_verdict(verdict: Verdict, report: str, objection: str) -> None:
    found = find_objection(verdict, parse_review(report))
    assert (objection in found, bool(found)) == (True, bool(objection))


def test_next_review_gets_what_is_open_and_what_is_new() -> None:
    report = parse_review("- [open] 2: still\n- [answered] 1\n- [note] c.py:1: new\n- [blocking] old two")
    assert list_open(report, ("old one", "old two")) == ("old two", "c.py:1: new")


def test_summary_counts() -> None:
    found = summarize(parse_review(REPORT), ("a", "b", "c"))
    assert found == (
        "1 of 3 criteria met, 1 not checkable, 2 blocking findings, 1 note, 2 of 3 earlier findings answered"
    )
    assert summarize(ReviewReport(), ()) == ""


def test_open_findings_are_told_at_the_end_which_is_what_is_quoted_of_a_long_report() -> None:
    answer = f"{'word ' * 2_000}\n- [open] 2: still there\nVerdict: approved"
    told = add_open(answer, parse_review(answer), ("Bad name", "a.py:1: no test"))
    assert told == f"{answer}\n\nStill open from the last review:\n2. a.py:1: no test"
    assert add_open("Verdict: approved", parse_review(""), ("Bad name",)) == "Verdict: approved"
