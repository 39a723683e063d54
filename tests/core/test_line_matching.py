"""How the lines of two texts are matched, and a text and its variants divided into regions."""

from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.session.line_matching import MAX_PAIRS, divide, match_lines

lines = st.lists(st.sampled_from("abcdef"), max_size=20)


@given(lines, lines)
def test_matches_ascend_and_are_the_same_lines(old: list[str], new: list[str]) -> None:
    found = match_lines(old, new)
    assert list(found) == sorted(found)
    assert list(found.values()) == sorted(set(found.values()))
    assert all(old[at] == new[place] for at, place in found.items())


@given(lines)
def test_same_text_matches_line_by_line(text: list[str]) -> None:
    assert match_lines(text, text) == {at: at for at in range(len(text))}


@given(lines, st.lists(lines, min_size=1, max_size=3))
def test_outside_of_the_regions_every_variant_is_the_base(base: list[str], variants: list[list[str]]) -> None:
    for number, variant in enumerate(variants):
        rebuilt: list[str] = []
        at = 0
        for region in divide(base, variants):
            start, end = region.variants[number]
            rebuilt += [*base[at : region.base[0]], *variant[start:end]]
            at = region.base[1]
        assert [*rebuilt, *base[at:]] == variant


def test_line_that_occurs_once_anchors_what_is_around_it() -> None:
    assert match_lines(["}", "", "run()", "}", ""], ["}", "", "}", "", "run()", "}", ""]) == {
        0: 0,
        1: 1,
        2: 4,
        3: 5,
        4: 6,
    }


def test_long_texts_without_a_line_of_their_own_are_not_compared_line_by_line() -> None:
    old, new = ["a", "b"] * MAX_PAIRS, ["b", "b", "a"] * MAX_PAIRS
    assert len(match_lines(old, new)) <= 2
