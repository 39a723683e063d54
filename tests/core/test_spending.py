"""Spending as text, and which budget it exceeds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.session.spending import (
    NOTHING,
    Allowance,
    Budget,
    Spent,
    add_up,
    find_excess,
    find_seconds_left,
    read_spent,
)

AMOUNTS = st.builds(Spent, *[st.integers(0, 1000)] * 5)


@pytest.mark.parametrize(
    ("spent", "words"),
    [
        (NOTHING, ""),
        (Spent(12345, 0.42, 8, 3, 720.0), "12345 tokens, $0.42, 8 calls, 3 turns, 12 min"),
        (Spent(cost=0.0012, turns=1, seconds=59.4), "$0.0012, 1 turn, 59 s"),
        (Spent(seconds=0.4), ""),
    ],
)
def test_spending_is_shown_without_zeros(spent: Spent, words: str) -> None:
    assert str(spent) == words


@given(st.lists(AMOUNTS, max_size=5), AMOUNTS)
def test_sums_and_differences_agree(parts: list[Spent], more: Spent) -> None:
    assert add_up([*parts, more]) - more == add_up(parts)


def test_a_budget_may_be_spent_whole_and_the_first_that_is_exceeded_is_named() -> None:
    node, run = Budget("budget.node", tokens=100, turns=2), Budget("budget.run", cost=1.5)
    allowances = [Allowance(node, Spent(tokens=60)), Allowance(run, Spent(cost=1.0))]
    assert find_excess(allowances, Spent(tokens=40, cost=0.5, turns=2)) == ""
    assert find_excess(allowances, Spent(tokens=41, cost=2)) == "budget.node.tokens is 100, but 101 were spent"
    assert find_excess(allowances, Spent(cost=0.75)) == "budget.run.cost is 1.5, but 1.75 were spent"
    assert find_excess(allowances, Spent(turns=3)) == "budget.node.turns is 2, but 3 were spent"


@given(AMOUNTS)
def test_without_a_limit_nothing_is_excess(spent: Spent) -> None:
    assert find_excess([Allowance(Budget("budget.run"), spent)], spent) == ""


def test_the_time_left_is_that_of_the_tightest_budget() -> None:
    tight, wide = Budget("budget.node", seconds=60), Budget("budget.run", seconds=100)
    assert find_seconds_left([Allowance(tight, Spent(seconds=20)), Allowance(wide, Spent(seconds=90))]) == 10
    assert find_seconds_left([Allowance(tight, Spent(seconds=61))]) == 0
    assert find_seconds_left([Allowance(Budget("budget.run"), Spent(seconds=5))]) == float("inf")


@pytest.mark.parametrize(
    "spent",
    [Spent(), Spent(12345, 0.42, 8, 3, 720.0), Spent(turns=1, seconds=12.0), Spent(tokens=1, cost=0.0042, calls=1)],
)
def test_what_a_trailer_says_is_read_again(spent: Spent) -> None:
    assert read_spent(str(spent)) == spent


def test_trailer_that_a_person_wrote_counts_as_nothing() -> None:
    assert read_spent("a lot, 1e9 tokens, -3 turns, $") == Spent()
