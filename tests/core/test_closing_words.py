"""What of a program's output is taken for its answer."""

import pytest

from tasks_lib.session.closing_words import CLOSING_CHARS, find_closing_words


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("", ""),
        ("Wrote it.", "Wrote it."),
        ("One.\n \t\nTwo,\nand more.\n\n\n", "Two,\nand more."),
        ("One.\r\n\r\nTwo.\r\n", "Two."),
        ("One.\n\n\x1b[1;32mTwo\x1b[0m.", "Two."),
        ("One.\n\n\\x1b[1;32mTwo\\x1b[0m.", "Two."),
    ],
)
def test_last_paragraph_is_what_is_said(output: str, said: str) -> None:
    assert find_closing_words(output) == said


def test_long_paragraph_is_cut_to_its_last_lines() -> None:
    said = find_closing_words("\n".join(f"line {number}" for number in range(1000)))
    assert len(said) <= CLOSING_CHARS
    assert said.startswith("line ")
    assert said.endswith("\nline 999")
    assert len(find_closing_words("word " * 1000)) <= CLOSING_CHARS
