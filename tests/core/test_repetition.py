"""An agent that repeats itself is stopped after a bounded number of calls; one that gets on, or waits, never is."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.repetition import (
    MAX_SAME_ERRORS,
    MAX_SAME_RESULTS,
    NONE,
    NOT_SEEN,
    WAIT_SECONDS,
    Output,
    find_loop,
    is_due,
    judge_output,
    needs_look,
    note_call,
    note_lines,
    note_work,
)

ByNumber = Callable[[int], str]
MANY = 200
SECONDS = 3600.0


def work(
    result: ByNumber,
    *,
    error: ByNumber = lambda _: "",
    content: ByNumber = lambda _: "same",
    seconds: float = 1.0,
) -> tuple[int, str]:
    """After how many calls the session is stopped, and why; MANY if it is not."""
    repeats, seen = NONE, NOT_SEEN
    for number in range(MANY):
        repeats = note_call(repeats, f"call {number}", "bash: make", result(number), error(number), seconds)
        while needs_look(repeats, seen):
            seen = note_work(repeats, seen, content(number))
        if said := find_loop(repeats, seen):
            return number + 1, said
    return MANY, ""


@pytest.mark.parametrize("period", [1, 2, 3, 5], ids="cycle of {}".format)
def test_calls_that_repeat_in_an_unchanged_worktree_are_a_loop(period: int) -> None:
    calls, said = work(lambda number: str(number % period))
    assert calls == MAX_SAME_RESULTS + period
    assert "the same calls again and again" in said
    assert "bash: make" in said


def test_errors_that_repeat_are_a_loop_whatever_was_called() -> None:
    calls, said = work(str, error=lambda number: f"oldString not found in line {number}")
    assert calls == MAX_SAME_ERRORS
    assert said.endswith("failed with the same error: oldString not found in line #")


def same(_: int) -> str:
    return "same"


def rarely_new(number: int) -> str:
    return str(number // MAX_SAME_RESULTS)


def mostly_failed(number: int) -> str:
    return "failed" if number % MAX_SAME_ERRORS else ""


def alternating(number: int) -> str:
    return "ab"[number % 2]


@pytest.mark.parametrize(
    "try_it",
    [
        lambda: work(str),
        lambda: work(same, content=str),
        lambda: work(same, seconds=WAIT_SECONDS),
        lambda: work(rarely_new),
        lambda: work(str, error=mostly_failed),
        lambda: work(str, error=alternating),
    ],
    ids=["new results", "a changing worktree", "waits", "something new now and then", "some succeed", "two errors"],
)
def test_session_that_gets_on_or_waits_is_left_alone(try_it: Callable[[], tuple[int, str]]) -> None:
    assert try_it() == (MANY, "")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "e"]), st.booleans()), max_size=60))
def test_what_is_reported_twice_counts_once(calls: list[tuple[str, str, bool]]) -> None:
    once = twice = NONE
    for number, (digest, error, is_doubled) in enumerate(calls):
        once = note_call(once, str(number), "x", digest, error, 1.0)
        for _ in range(1 + is_doubled):
            twice = note_call(twice, str(number), "x", digest, error, 1.0)
    assert once == twice


def print_for_long(line: ByNumber, content: ByNumber = lambda _: "same") -> tuple[float, str]:
    """When a program is stopped that prints a line each minute, and why."""
    output = Output(0.0)
    for number in range(MANY):
        at = 60.0 * number
        output = note_lines(output, [line(number)], at)
        if is_due(output, at, SECONDS):
            output, said = judge_output(output, content(number), at, SECONDS)
            if said:
                return at, said
    return 60.0 * MANY, ""


@pytest.mark.parametrize("period", [1, 4])
def test_output_that_repeats_while_the_worktree_stays_the_same_is_a_loop(period: int) -> None:
    at, said = print_for_long(lambda number: f"line {number % period}")
    assert SECONDS <= at <= 2 * SECONDS
    assert "the output repeated earlier lines" in said


def every_tenth(number: int) -> str:
    return str(number // 10)


@pytest.mark.parametrize(
    ("line", "content"),
    [(str, same), (same, every_tenth), (rarely_new, same)],
    ids=["new lines", "a changing worktree", "a new line now and then"],
)
def test_output_of_a_program_that_gets_on_is_no_loop(line: ByNumber, content: ByNumber) -> None:
    assert print_for_long(line, content)[1] == ""
