"""Text is folded, cut and made safe without losing printable characters, and long lists are shortened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.naming import show_some
from tasks_lib.text import (
    cut,
    drop_controls,
    escape_unprintable,
    fold,
    fold_printable,
    list_some,
    read_count,
    tell_rest,
)

LISTS = st.lists(st.text(st.characters(categories=["L"]), min_size=1), max_size=6)


@given(st.text())
def test_folded_text_is_one_line_of_the_same_words(text: str) -> None:
    assert fold(text).split(" ") == (text.split() or [""])
    assert fold_printable(text).isprintable()
    assert fold_printable(text) == fold_printable(fold(text)) == fold(fold_printable(text))


def test_unprintable_characters_separate_words_only_in_fold_printable() -> None:
    assert (fold("a\x00 \n b\t"), fold_printable("a\x00\x1bb\u200bc")) == ("a\x00 b", "a b c")


@given(st.text(), st.integers(1, 20))
def test_cut_text_is_no_longer_than_allowed_and_begins_as_it_was(text: str, chars: int) -> None:
    short = cut(text, chars)
    assert len(short) <= chars or short == text
    assert (short == text) if len(text) <= chars else (short.endswith("…") and text.startswith(short[:-1]))


def test_no_space_precedes_the_ellipsis() -> None:
    assert (cut("abcdef", 4), cut("ab cdef", 4), cut("abcd", 4)) == ("abc…", "ab…", "abcd")


@given(st.text(st.characters()))
def test_text_without_controls_can_be_written_anywhere(text: str) -> None:
    plain = drop_controls(text)
    assert plain == drop_controls(plain)
    plain.encode()
    assert not set(plain) & {chr(number) for number in (*range(9), *range(11, 32), 127)}


@given(st.text(st.characters()))
def test_escaped_text_keeps_its_lines_and_is_safe_for_a_terminal(text: str) -> None:
    shown = escape_unprintable(text)
    assert [line.replace("\t", "") for line in shown.split("\n") if not line.replace("\t", "").isprintable()] == []
    assert shown.count("\n") == text.count("\n")
    assert escape_unprintable("a\x1b[2J\r\ud800\n\tb") == "a\\x1b[2J\\r\\ud800\n\tb"


@given(LISTS, st.integers(1, 6))
def test_a_list_is_shown_whole_or_shortened_with_the_number_left(words: list[str], most: int) -> None:
    named, _, rest = list_some(words, most).partition(" and ")
    assert named == ", ".join(words[:most])
    assert rest == (f"{len(words) - most} more" if len(words) > most else "")
    assert show_some(words, most).endswith(tell_rest(len(words), most))


def test_the_number_left_is_worded() -> None:
    assert (tell_rest(3, 3), tell_rest(5, 3), tell_rest(5, 3, "… and ")) == ("", " and 2 more", "… and 2 more")
    assert show_some(["a\n", "b", "c", "d"]) == "a\\n, b, c and 1 more"


@pytest.mark.parametrize(("text", "count"), [("0", 0), ("42", 42), ("007", 7), ("9" * 9, 999_999_999)])
def test_count_is_read(text: str, count: int) -> None:
    assert read_count(text) == count


@pytest.mark.parametrize("text", ["", " 1", "-1", "+1", "1.0", "1_000", "²", "٣", "1\n", "9" * 10, "9" * 5_000])
def test_what_is_no_count_is_none_and_no_error(text: str) -> None:
    assert read_count(text) is None
