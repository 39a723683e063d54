"""Decides how text is folded, cut and made safe for a terminal or a file, and how long lists are told."""

import re
from collections.abc import Sequence

_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def fold(text: str) -> str:
    """`text` on one line, runs of white space as one space."""
    return " ".join(text.split())


def fold_printable(text: str) -> str:
    """As `fold`, with whatever else cannot be seen as white space too."""
    if not text.isprintable():
        text = "".join(one if one.isprintable() else " " for one in text)
    return fold(text)


def cut(text: str, chars: int) -> str:
    """`text`, at most `chars` long, with an ellipsis where something was cut off."""
    return text if len(text) <= chars else text[: chars - 1].rstrip() + "…"


def drop_controls(text: str) -> str:
    """`text` as any file and log can hold it: no control characters, `\n` alone, no halves of surrogate pairs."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    return _NOT_TEXT.sub("", plain)


def escape_unprintable(text: str) -> str:
    """`text` with its lines, and an escape for whatever else in it could steer a terminal, or is no character."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def tell_rest(count: int, most: int, start: str = " and ") -> str:
    """`start` and how many more than `most` there are, such as " and 2 more"; "" if there are no more."""
    return f"{start}{count - most} more" if count > most else ""


def list_some(words: Sequence[str], most: int) -> str:
    """The first `most` of `words`, and how many more there are."""
    return ", ".join(words[:most]) + tell_rest(len(words), most)
