"""Decides how text is folded, cut and made safe for a terminal or a file, and how long lists are shortened."""

import re
from collections.abc import Sequence

_COUNT = re.compile(r"[0-9]{1,9}")
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def read_count(text: str) -> int | None:
    """The number that `text` is in up to nine digits of ASCII, None if it is anything else.

    `str.isdigit` accepts some digits that `int` refuses, and `int` refuses numbers of several thousand digits.
    """
    return int(text) if _COUNT.fullmatch(text) else None


def fold(text: str) -> str:
    """`text` on one line, with every run of white space as one space."""
    return " ".join(text.split())


def fold_printable(text: str) -> str:
    """Like `fold`, but with every other unprintable character treated as white space too."""
    if not text.isprintable():
        text = "".join(one if one.isprintable() else " " for one in text)
    return fold(text)


def cut(text: str, chars: int) -> str:
    """`text`, at most `chars` long, ending in an ellipsis if it was cut."""
    return text if len(text) <= chars else text[: chars - 1].rstrip() + "…"


def cut_apart(words: Sequence[str], chars: int) -> list[str]:
    """`words`, each at most `chars` long if that leaves them different; of one that is cut, both ends are kept.

    If words would be cut to the same text, all are given more room, until they differ.
    """
    longest = max(map(len, words), default=0)
    for limit in range(max(chars, 3), longest):
        found = [cut_middle(word, limit) for word in words]
        if len(set(found)) == len(set(words)):
            return found
    return list(words)


def cut_middle(text: str, chars: int) -> str:
    """`text`, at most `chars` long, with an ellipsis in its middle if it was cut."""
    if len(text) <= chars:
        return text
    tail = chars // 2
    return f"{text[: chars - tail - 1]}…{text[len(text) - tail :]}"


def drop_controls(text: str) -> str:
    """`text` without control characters and lone surrogates, with `\n` line endings: safe for any file or log."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    return _NOT_TEXT.sub("", plain)


def escape_unprintable(text: str) -> str:
    """`text` with its line breaks, and every other unprintable character escaped, so that it is safe to print."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def tell_rest(count: int, most: int, start: str = " and ") -> str:
    """`start` and how many of `count` are beyond `most`, such as " and 2 more"; "" if none are."""
    return f"{start}{count - most} more" if count > most else ""


def list_some(words: Sequence[str], most: int) -> str:
    """The first `most` of `words`, and how many more there are."""
    return ", ".join(words[:most]) + tell_rest(len(words), most)
