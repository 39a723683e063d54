"""Decides which known word the user most likely meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def find_nearest(word: str, known: Iterable[str]) -> str | None:
    """The word in `known` that is closest to `word`, or None if none is close."""
    words = list(known)
    same = [one for one in words if one.casefold() == word.casefold()]
    return next(iter(same or get_close_matches(word, words, n=1)), None)


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a message: `. Did you mean "…"?` with the closest word in `known`, or "" if none is close."""
    found = find_nearest(word, known)
    return f'. Did you mean "{found}"?' if found else ""
