"""How a turn ended, decided from the facts known when it is over."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.model import Verdict
from tasks_lib.session.turn_ending import (
    MAX_PATHS_SAID,
    AttemptFailed,
    Done,
    SafeExit,
    TurnFacts,
    Unfinished,
    decide_turn,
    find_verdict,
)

WORKED = TurnFacts(status=0, answer="Done.", commit="c1", has_work=True)
REVIEWED = TurnFacts(status=0, answer="Fine.\nVerdict: approved", commit="c1", has_work=False, is_review=True)


def test_committed_work_and_a_clean_tree_is_done() -> None:
    assert decide_turn(WORKED) == Done()


def test_safe_exit_comes_before_everything_else() -> None:
    worst = replace(WORKED, said_blocked="no key", status=7, is_timed_out=True, dirty=("x",), has_work=False)
    assert decide_turn(worst) == SafeExit("no key")


def test_time_limit_fails_the_attempt_whatever_its_status() -> None:
    ending = decide_turn(replace(WORKED, is_timed_out=True, status=-15))
    assert isinstance(ending, AttemptFailed)
    assert "watch.turn_seconds" in ending.reason


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [(3, "", "status 3"), (-9, "", "signal 9"), (500, "the server said 500", "the server said 500")],
)
def test_nonzero_status_fails_the_attempt_despite_committed_work(status: int, error: str, reason: str) -> None:
    ending = decide_turn(replace(WORKED, status=status, error=error))
    assert isinstance(ending, AttemptFailed)
    assert reason in ending.reason


def test_uncommitted_paths_are_named_and_long_lists_are_cut() -> None:
    paths = tuple(f"file-{number}" for number in range(MAX_PATHS_SAID + 5))
    ending = decide_turn(replace(WORKED, dirty=paths))
    assert isinstance(ending, Unfinished)
    assert f"file-{MAX_PATHS_SAID - 1}\n" in ending.nudge
    assert f"file-{MAX_PATHS_SAID}\n" not in ending.nudge
    assert "and 5 more" in ending.nudge


def test_no_work_is_unfinished() -> None:
    ending = decide_turn(replace(WORKED, has_work=False))
    assert isinstance(ending, Unfinished)
    assert "Nothing is committed" in ending.nudge


def test_returned_work_needs_a_new_commit() -> None:
    assert isinstance(decide_turn(replace(WORKED, refused="c1")), Unfinished)
    assert decide_turn(replace(WORKED, refused="c0")) == Done()


def test_review_is_done_with_a_verdict_and_needs_no_work() -> None:
    assert decide_turn(REVIEWED) == Done(Verdict.APPROVED)


def test_review_without_a_verdict_or_with_uncommitted_files_is_unfinished() -> None:
    for facts in (replace(REVIEWED, answer="Fine."), replace(REVIEWED, dirty=("notes.txt",))):
        assert isinstance(decide_turn(facts), Unfinished)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Verdict: approved", Verdict.APPROVED),
        ("text\n\n**Verdict:** Approved with changes.\n\n", Verdict.APPROVED_WITH_CHANGES),
        ("## verdict: changes requested", Verdict.CHANGES_REQUESTED),
        ("- Verdict : `approved`", Verdict.APPROVED),
        ("Verdict: approved\nOne more thing.", None),
        ("Verdict: not approved", None),
        ("Verdict: approved, I think", None),
        ("My verdict: approved", None),
        ("Verdict: approved | changes requested", None),
        ("", None),
        ("\n \n", None),
    ],
)
def test_only_the_last_line_is_a_verdict_and_only_in_these_words(answer: str, verdict: Verdict | None) -> None:
    assert find_verdict(answer) is verdict


FACTS = st.builds(
    TurnFacts,
    status=st.integers(-15, 3),
    answer=st.sampled_from(["", "Verdict: approved", "Verdict: changes requested", "Fine."]),
    commit=st.sampled_from(["c0", "c1"]),
    has_work=st.booleans(),
    dirty=st.lists(st.text(min_size=1, max_size=3), max_size=3).map(tuple),
    said_blocked=st.sampled_from(["", "no key"]),
    is_timed_out=st.booleans(),
    refused=st.sampled_from(["", "c0", "c1"]),
    is_review=st.booleans(),
)


@given(FACTS)
def test_turn_that_is_dirty_failed_late_or_incomplete_is_not_done(facts: TurnFacts) -> None:
    ending = decide_turn(facts)
    assert isinstance(ending, SafeExit) == bool(facts.said_blocked)
    if isinstance(ending, Done):
        assert not facts.dirty
        assert facts.status == 0
        assert not facts.is_timed_out
        assert (ending.verdict is not None) == facts.is_review
        assert facts.is_review or (facts.has_work and facts.commit != facts.refused)


@given(st.text())
def test_any_answer_is_read_without_an_error(answer: str) -> None:
    find_verdict(answer)
