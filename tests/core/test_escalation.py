"""What follows an unfinished turn: each step leads further up a ladder that ends."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.session.escalation import (
    Bounds,
    Seen,
    Step,
    count_unchanged,
    decide_step,
    has_attempt,
    write_prompt,
)

LADDER = list(Step)


def stuck(reason: str = "nothing is committed", work: str = "w") -> Seen:
    return Seen(reason, "Commit it.", work)


def test_ladder_goes_from_a_nudge_over_guidance_to_another_attempt_and_then_blocks() -> None:
    steps = [decide_step([stuck()] * turns, Bounds(2, has_attempt=True)) for turns in (1, 2, 3)]
    assert steps == [Step.NUDGE, Step.GUIDANCE, Step.ATTEMPT]
    assert decide_step([stuck()] * 3, Bounds(2, has_attempt=False)) is Step.BLOCKED


@given(st.integers(0, 2), st.booleans())
def test_ladder_never_goes_down_and_is_left_after_as_many_turns_as_are_allowed(nudges: int, has_another: bool) -> None:
    steps = [decide_step([stuck()] * turns, Bounds(nudges, has_another)) for turns in range(1, 6)]
    assert all(LADDER.index(one) <= LADDER.index(two) for one, two in pairwise(steps))
    assert sum(step in (Step.NUDGE, Step.GUIDANCE) for step in steps) == nudges


@given(st.integers(1, 10), st.integers(1, 50))
def test_attempts_are_bounded_whatever_their_first_number_is(attempts: int, allowance: int) -> None:
    used = [number for number in range(allowance, allowance + 20) if has_attempt(number, allowance, attempts)]
    assert len(used) == attempts - 1


def test_nudge_says_only_what_is_missing_and_guidance_what_was_seen() -> None:
    seen = [stuck("the turn was stopped: 6 calls failed with: no such table"), stuck("nothing is committed")]
    assert write_prompt(Step.NUDGE, seen[:1]) == "Commit it."
    guidance = write_prompt(Step.GUIDANCE, seen)
    for said in ("no such table", "nothing is committed", "Nothing in your worktree", "Commit it.", "--level blocking"):
        assert said in guidance


def test_turns_without_a_change_are_counted_from_the_last_one() -> None:
    works = ["a", "b", "b", "b"]
    assert count_unchanged([stuck(work=work) for work in works]) == 2
    assert count_unchanged([stuck(work=work) for work in ("b", "b", "c")]) == 0
    assert count_unchanged([stuck(work="")] * 3) == 0
