"""Which pairs of branches are merged, which conflicts are announced, to whom, and when they have gone."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tasks_lib.session.coming_conflicts import (
    MOST_LANDED,
    MOST_TOLD,
    NOTHING,
    SETTLE_SECONDS,
    Announcement,
    Branch,
    PathChange,
    Radar,
    announce,
    find_states,
    land,
    leave,
    list_pairs,
    note_merges,
    see,
)

OLD, NEW, OTHER = "100644 0", "100644 1", "100644 2"
EDIT, ADD, DELETE = PathChange(OLD, NEW), PathChange(NOTHING, NEW), PathChange(OLD, NOTHING)
EDIT_OTHERWISE = PathChange(OLD, OTHER)
PAIR = ("a", "b")


def branch(node: str, changes: Mapping[str, PathChange], began: float = 0.0, **known: object) -> Branch:
    made = Branch(node, f"{node}1", changes, began)
    return replace(made, **known)  # pyright: ignore[reportArgumentType]


def look(*branches: Branch, radar: Radar | None = None) -> Radar:
    radar = radar or Radar()
    for one in branches:
        radar = see(radar, one)
    return radar


def merge(radar: Radar, *paths: str, now: float = 0.0) -> Radar:
    return note_merges(radar, {PAIR: (find_states(radar, PAIR), paths)}, now)


BOTH = (branch("a", {"x": EDIT}, 1.0), branch("b", {"x": EDIT_OTHERWISE}, 2.0))


@pytest.mark.parametrize(
    ("mine", "theirs", "is_merged"),
    [
        ({"x": EDIT}, {"y": EDIT}, False),
        ({"x": EDIT}, {"x": EDIT}, False),
        ({"x": EDIT}, {"x": EDIT_OTHERWISE}, True),
        ({"x": ADD}, {"x": PathChange(NOTHING, OTHER)}, True),
        ({"x": DELETE}, {"x": EDIT}, True),
        ({"x": DELETE}, {"x": DELETE}, False),
        ({"x": DELETE, "y": ADD}, {"x": DELETE, "z": ADD}, True),
        ({"x": ADD}, {"x/y": ADD}, True),
        ({"x": ADD}, {"xx/y": ADD}, False),
        ({"d/x": DELETE, "e/x": ADD}, {"d/y": ADD}, True),
        ({"d/x": DELETE}, {"d/y": ADD}, False),
    ],
)
def test_pair_is_merged_only_if_its_changes_can_touch_each_other(
    mine: Mapping[str, PathChange], theirs: Mapping[str, PathChange], is_merged: bool
) -> None:
    radar = look(branch("a", mine), branch("b", theirs))
    assert list_pairs(radar, "a") == list_pairs(radar, "b") == ([PAIR] if is_merged else [])


def test_pair_is_merged_once_in_the_same_states() -> None:
    radar = merge(look(*BOTH), "x")
    assert list_pairs(radar, "a") == []
    assert list_pairs(see(radar, replace(BOTH[1], state="b2")), "a") == [PAIR]


def test_lasting_conflict_is_announced_once_to_the_later_session() -> None:
    radar = merge(look(*BOTH), "x", now=100.0)
    radar, said = announce(radar, PAIR, {}, 100.0 + SETTLE_SECONDS - 1)
    assert said == []
    assert radar.find_conflicts("a") == {}
    radar, said = announce(radar, PAIR, {}, 100.0 + SETTLE_SECONDS)
    assert said == [Announcement(PAIR, ("x",), "b")]
    assert said[0].other == "a"
    assert radar.find_conflicts("a") == {"b": ("x",)}
    assert announce(radar, PAIR, {}, 1e9)[1] == []


def test_conflict_of_commits_is_announced_at_once() -> None:
    radar = merge(look(*(replace(one, is_committed=True) for one in BOTH)), "x")
    assert announce(radar, PAIR, {}, 0.0)[1] == [Announcement(PAIR, ("x",), "b")]


def test_conflict_that_changes_keeps_the_time_since_which_it_lasts() -> None:
    radar = merge(look(*BOTH), "x", now=100.0)
    radar = merge(see(radar, replace(BOTH[0], state="a2")), "x", now=100.0 + SETTLE_SECONDS)
    assert announce(radar, PAIR, {}, 100.0 + SETTLE_SECONDS)[1]


def test_conflict_has_gone_with_a_clean_merge_or_with_the_change() -> None:
    radar, _ = announce(merge(look(*BOTH), "x"), PAIR, {}, SETTLE_SECONDS)
    assert merge(see(radar, replace(BOTH[0], state="a2"))).find_conflicts("b") == {}
    assert see(radar, replace(BOTH[0], changes={"y": EDIT})).find_conflicts("b") == {}
    assert leave(radar, "a").find_conflicts("b") == {}


def test_conflict_that_comes_back_is_not_announced_again_and_a_new_path_is() -> None:
    radar, _ = announce(merge(look(*BOTH), "x"), PAIR, {}, SETTLE_SECONDS)
    radar = merge(see(radar, replace(BOTH[0], state="a2")))
    changes = {"x": EDIT, "y": EDIT}
    more = (replace(BOTH[0], state="a3", changes=changes), replace(BOTH[1], changes={**changes, "x": EDIT_OTHERWISE}))
    radar, said = announce(merge(look(*more, radar=radar), "x", "y"), PAIR, {}, SETTLE_SECONDS)
    assert said == [Announcement(PAIR, ("y",), "b")]
    assert radar.find_conflicts("b") == {"a": ("x", "y")}


def test_each_session_is_told_a_limited_number_of_times_and_none_that_does_not_listen() -> None:
    radar = merge(look(*BOTH), "x")
    assert announce(radar, PAIR, {"b": MOST_TOLD}, SETTLE_SECONDS)[1][0].told == "a"
    assert announce(radar, ("a",), {}, SETTLE_SECONDS)[1][0].told == "a"
    assert announce(radar, (), {}, SETTLE_SECONDS)[1] == [Announcement(PAIR, ("x",), NOTHING)]


def test_path_that_only_one_branch_changed_does_not_count_except_in_a_rename() -> None:
    drifted = merge(look(*BOTH), "elsewhere")
    assert drifted.conflicts == {}
    mine, theirs = branch("a", {"x": DELETE, "y": ADD}), branch("b", {"x": EDIT})
    assert merge(look(mine, theirs), "y").conflicts[PAIR].paths == ("y",)


def test_landed_branch_conflicts_with_those_that_began_before_it_landed() -> None:
    radar = land(look(*BOTH), BOTH[0], 5)
    assert list_pairs(radar, "b") == [PAIR]
    assert list_pairs(see(radar, branch("c", {"x": EDIT}, 60.0, contains=5)), "c") == [("b", "c")]
    assert list_pairs(see(radar, replace(BOTH[1], contains=5)), "b") == []
    assert "a" not in see(radar, replace(BOTH[1], contains=5)).branches
    assert list_pairs(land(radar, BOTH[1], 6), "b") == []


def test_landed_branches_are_forgotten_beyond_a_limit() -> None:
    radar = look(BOTH[0])
    for number in range(MOST_LANDED + 5):
        radar = land(radar, branch(f"n{number}", {"y": EDIT}), 1 + number)
    assert len(radar.branches) == MOST_LANDED + 1
    assert "n4" not in radar.branches


def test_result_for_a_branch_that_has_left_is_dropped() -> None:
    radar = look(*BOTH)
    states = find_states(radar, PAIR)
    assert note_merges(leave(radar, "a"), {PAIR: (states, ("x",))}, 0.0).conflicts == {}
