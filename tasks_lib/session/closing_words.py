"""Finds what an agent means to say at the end of a program's output, which may be a long log."""

import re

CLOSING_CHARS = 1_000
"""How much of a program's output goes into task files and commits; the log has all of it."""
_COLOUR = re.compile(r"(?:\x1b|\\x1b)\[[0-9;:]*[A-Za-z]")
"""Also as it is written once control characters are escaped."""


def find_closing_words(output: str) -> str:
    """Return the last paragraph of `output`, without colours; of one that is longer than `CLOSING_CHARS`, its end."""
    plain = _COLOUR.sub("", output).replace("\r\n", "\n")
    paragraphs = [part.strip() for part in re.split(r"\n[ \t]*\n", plain) if part.strip()]
    last = paragraphs[-1] if paragraphs else ""
    if len(last) <= CLOSING_CHARS:
        return last
    kept: list[str] = []
    for line in reversed(last.splitlines()):
        if sum(map(len, kept)) + len(kept) + len(line) > CLOSING_CHARS:
            break
        kept.insert(0, line)
    return "\n".join(kept).strip() or f"…{last[1 - CLOSING_CHARS :].lstrip()}"
