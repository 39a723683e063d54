"""Decides which signal asks a process to end: SIGHUP if it has a terminal of its own, and otherwise SIGTERM.

Ending what holds a terminal closes it, for which the kernel sends SIGHUP to the programs there. Vim that gets SIGTERM
as well, a tenth of a second later, deletes the whole directory for temporary files: its handler of SIGHUP removes the
last part of the path of its own directory there, deletes that directory, and is interrupted by its handler of SIGTERM,
which does so again. SIGHUP twice does no harm, and a shell at its prompt ignores SIGTERM anyway.
"""

import os
import signal
import sys
from contextlib import suppress

import psutil

_STANDARD = (0, 1, 2)
_PLACE = "/dev/pts/"


def choose_ending(pid: int) -> signal.Signals:
    """Return the signal that asks `pid` to end; a terminal that this process uses too is not about to be closed."""
    return signal.SIGHUP if _list_terminals(pid) - _list_terminals(os.getpid()) else signal.SIGTERM


def _list_terminals(pid: int) -> set[str]:
    """The controlling terminal of `pid`, and those that it still has open after they were closed at the other end."""
    found: set[str] = set()
    if sys.platform != "linux":
        with suppress(psutil.Error):
            found.add(psutil.Process(pid).terminal() or "")
        return found - {""}
    with suppress(OSError):
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - As the rest of /proc here, for speed.
            # The program's name is in parentheses and may contain any byte.
            controlling = file.read().rpartition(b") ")[2].split()[4]
        found |= {controlling.decode()} - {"0"}
    for number in _STANDARD:
        with suppress(OSError):
            opened = os.readlink(f"/proc/{pid}/fd/{number}")  # noqa: PTH115
            if opened.startswith(_PLACE):
                found.add(opened.removesuffix(" (deleted)"))
    return found
