"""The findings of a review node become a bounded number of follow-up tasks, by covered node or file."""

from tasks_lib.session.review_follow_ups import MAX_FOLLOW_UPS, FollowUp, group_findings
from tasks_lib.session.review_report import parse_review

OWNERS = {"src/a.py": "a", "src/a2.py": "a"}


def group(*lines: str) -> list[FollowUp]:
    return list(group_findings(parse_review("\n".join(lines)), OWNERS))


def test_findings_are_grouped_by_the_node_that_they_are_about_or_by_file() -> None:
    assert group(
        "- [blocking] src/a.py:3: loses a row",
        "- [note] src/other.py:1: long",
        "- [blocking] src/shared.py:9: races",
        "- [blocking] src/a2.py:1: leaks",
        "- [blocking] There is no test",
        "- [not met] It is fast: nobody measured",
        "- [met] It is there",
    ) == [
        FollowUp(("src/a.py:3: loses a row", "src/a2.py:1: leaks"), "a"),
        FollowUp(("src/shared.py:9: races",), path="src/shared.py"),
        FollowUp(("There is no test", "It is fast: nobody measured")),
    ]


def test_report_without_findings_is_one_task() -> None:
    assert group("It is all wrong.", "- [note] a.py:1: long") == [FollowUp()]


def test_last_task_has_what_is_left() -> None:
    made = group(*(f"- [blocking] src/{number}.py:1: bad" for number in range(MAX_FOLLOW_UPS + 2)))
    assert len(made) == MAX_FOLLOW_UPS
    assert made[-1] == FollowUp(tuple(f"src/{number}.py:1: bad" for number in (4, 5, 6)))
    assert made[0].path == "src/0.py"
