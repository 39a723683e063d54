"""Which changes of two sides a merge has dropped."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.session.dropped_hunks import Side, Sides, find_dropped

HEAD, BRANCH = Side.HEAD, Side.BRANCH


def name(base: str | None, head: str | None, branch: str | None, result: str | None) -> list[tuple[Side, str]]:
    """The dropped hunks of one file: the side, and what it added, or removed if it added nothing."""
    found = find_dropped([Sides("f", base, head, branch, result)])
    return [(one.side, "\n".join(one.added or one.removed)) for one in found]


ONE, TWO, THREE = "x = 1\n", "x = 2\n", "x = 3\n"


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((ONE, TWO, THREE, TWO), [(BRANCH, "x = 3")]),
        ((ONE, TWO, THREE, THREE), [(HEAD, "x = 2")]),
        ((ONE, TWO, THREE, ONE), [(HEAD, "x = 2"), (BRANCH, "x = 3")]),
        ((ONE, TWO, THREE, None), [(HEAD, "x = 2"), (BRANCH, "x = 3")]),
        ((ONE, TWO, THREE, "x = 2\n# resolved by hand, see above\n"), [(BRANCH, "x = 3")]),
        (("f(a)\n", "f(a, b)\n", "f(a, c)\n", "f(a, b)\n"), [(BRANCH, "f(a, c)")]),
        (("a == b\n", "a != b\n", "a == b\nc\n", "a == b\nc\n"), [(HEAD, "a != b")]),
        (("", "one\n", "two\n", "two\n"), [(HEAD, "one")]),
        ((None, "one\n", "two\n", "two\n"), [(HEAD, "one")]),
        (("a\nb\nc\nd\n", "a\nc\nd\n", "a\nb\nc\nd\ne\n", "a\nb\nc\nd\ne\n"), [(HEAD, "b")]),
        (("f(a, b)\ng\n", "f(a)\ng\n", "f(a, b)\ng\nh\n", "f(a, b)\ng\nh\n"), [(HEAD, "f(a)")]),
        (("a\nb\n", None, "a\nb changed\n", None), [(BRANCH, "b changed")]),
        ((ONE, TWO, TWO, ONE), [(HEAD, "x = 2")]),
    ],
)
def test_change_without_effect_on_the_result_is_named(
    states: tuple[str | None, str | None, str | None, str | None], expected: list[tuple[Side, str]]
) -> None:
    assert name(*states) == expected


@pytest.mark.parametrize(
    "states",
    [
        (ONE, TWO, THREE, "x = max(2, 3)\n"),
        (ONE, TWO, THREE, "x = compute_default()\n"),
        ("base\n", "left\n", "right\n", "both\n"),
        ("f(a)\n", "f(a, b)\n", "f(a, c)\n", "f(\n    a,\n    c,\n    b,\n)\n"),
        ("f(a)\n", "f(a, b)\n", "f(a, b, c)\n", "f(a, b, c)\n"),
        ("old(1)\n", "new(1)\n", "old(2)\n", "new(2)\n"),
        ("a\nz\n", "a\nb\nz\n", "a\nc\nz\n", "z\nc\nb\na\n"),
        ("a\n", "a\nb\n", "a\nb\n", "a\nb\n"),
        ("a\nb\nc\n", "if x:\n  a\n  b\n  c\n", "a\nb2\nc\n", "if x:\n  a\n  b2\n  c\n"),
        ("a\nb\nc\nd\n", "a\nd\n", "a\nb needed\nc\nd\n", "a\nb needed\nc\nd\n"),
        ("a\nb\n", None, "a\nb changed\n", "a\nb changed\n"),
        ("a\n\tb\n", "a\n    b\n", "a\n\tb\nc\n", "a\n\tb\nc\n"),
        ("s\nt\nu\n", "s\nnew line\nt\nu\n", "s\nt\nnew line\nu\n", "s\nt\nnew line\nu\n"),
    ],
)
def test_what_both_sides_meant_is_not_named(states: tuple[str | None, str | None, str | None, str | None]) -> None:
    assert name(*states) == []


def test_code_that_moved_to_another_file_with_the_other_sides_change_is_not_named() -> None:
    text = "def run():\n    first()\n    second()\n"
    changed = text.replace("second()", "second(fast)")
    here = Sides("a.py", text, "import b\n", changed, "import b\n")
    assert find_dropped([here, Sides("b.py", None, text, None, changed)]) == ()
    (dropped,) = find_dropped([here, Sides("b.py", None, text, None, text)])
    assert (dropped.path, dropped.side, dropped.added) == ("a.py", BRANCH, ("    second(fast)",))


def test_hunk_says_its_lines_and_keeps_its_identity_where_it_is_in_the_file() -> None:
    (one,) = find_dropped([Sides("f", "a\nb\nc\n", "a\nb\nc\n", "a\nnew b\nmore\nc\n", "a\nb\nc\n")])
    assert (one.first, one.last, one.removed, one.added) == (2, 3, ("b",), ("new b", "more"))
    (later,) = find_dropped([Sides("f", "0\na\nb\nc\n", "0\na\nb\nc\n", "0\na\nnew b\nmore\nc\n", "0\na\nb\nc\n")])
    assert (later.first, later.identity) == (3, one.identity)
    (other,) = find_dropped([Sides("f", "a\nb\nc\n", "a\nb\nc\n", "a\nother b\nmore\nc\n", "a\nb\nc\n")])
    assert other.identity != one.identity


@pytest.mark.parametrize(
    ("states", "sides"),
    [
        (("b", "h", "b", "b"), [HEAD]),
        (("b", "b", "n", "b"), [BRANCH]),
        (("b", "h", "b", "h"), []),
        (("b", "h", "n", "h"), []),
        (("b", "h", "n", "b"), []),
        ((None, "h", None, None), [HEAD]),
        (("b", None, "b", "b"), [HEAD]),
    ],
)
def test_file_that_is_no_text_is_dropped_only_if_one_side_changed_it(
    states: tuple[str | None, str | None, str | None, str | None], sides: list[Side]
) -> None:
    assert [one.side for one in find_dropped([Sides("f", *states, is_text=False)])] == sides


# Properties.

words = st.integers(0, 5).map(lambda number: f"w{number}")
bases = st.lists(st.lists(words, min_size=1, max_size=4).map(" ".join), max_size=12)
seeds = st.integers(0, 2**32)


def change(chance: random.Random, base: list[str], mark: str) -> list[str]:
    """`base` with one to three places added or replaced, each with a word that nothing else has."""
    lines = list(base)
    for number in range(chance.randint(1, 3)):
        at = chance.randint(0, len(lines))
        is_own = at < len(lines) and lines[at].startswith(mark)
        lines[at : at + (0 if is_own else chance.randint(0, 1))] = [f"{mark}{number} {chance.choice(['w0', 'w9'])}"]
    return lines


def join(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


@given(bases, seeds)
def test_taking_one_side_names_every_change_of_the_other_and_none_of_its_own(base: list[str], seed: int) -> None:
    chance = random.Random(seed)
    head, branch = change(chance, base, "head"), change(chance, base, "branch")
    found = find_dropped([Sides("f", join(base), join(head), join(branch), join(head))])
    named = [line for one in found if one.side is BRANCH for line in one.added]
    assert {line for line in branch if line.startswith("branch")} <= set(named)
    assert [line for one in found if one.side is HEAD for line in one.added] == []


@given(bases, seeds, st.booleans())
def test_every_added_line_of_both_sides_in_any_order_and_indentation_is_enough(
    base: list[str], seed: int, is_shuffled: bool
) -> None:
    chance = random.Random(seed)
    head, branch = change(chance, base, "head"), change(chance, base, "branch")
    result = [line for line in base if line in head and line in branch]
    result += [f"  {line}" for line in (*head, *branch) if line.startswith(("head", "branch"))]
    if is_shuffled:
        chance.shuffle(result)
    found = find_dropped([Sides("f", join(base), join(head), join(branch), join(result))])
    assert [line for one in found for line in one.added] == []


@given(bases, bases, bases)
def test_equal_sides_and_no_changes_drop_nothing(base: list[str], head: list[str], branch: list[str]) -> None:
    assert find_dropped([Sides("f", join(base), join(head), join(head), join(head))]) == ()
    assert find_dropped([Sides("f", join(base), join(base), join(base), join(branch))]) == ()
    assert find_dropped([Sides("f", join(base), join(head), join(base), join(head))]) == ()


texts = st.text("ab {}\n")


@given(texts, texts, texts, texts)
def test_any_texts_are_judged(base: str, head: str, branch: str, result: str) -> None:
    for one in find_dropped([Sides("f", base, head, branch, result)]):
        assert 1 <= one.first <= one.last or not (one.added or one.removed)
