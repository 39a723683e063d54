"""Decides which known word a person most likely meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of a message: `. Did you mean "…"?` with the nearest of `known`, or nothing if none is near."""
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'. Did you mean "{found[0]}"?' if found else ""
