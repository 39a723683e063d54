"""Reads how long a turn was silent from what is said of it: a busy machine notices it later than its limit."""

import re


def read_silence(said: str) -> int:
    """The seconds in which nothing happened, -1 if that is not said."""
    found = re.search(r"nothing happened for (\d+) seconds", said)
    return int(found[1]) if found else -1
