"""Decides which signal asks a process to end: SIGHUP if it has a terminal of its own, and otherwise SIGTERM.

Ending what holds a terminal closes it, for which the kernel sends SIGHUP to the programs there. Vim that gets SIGTERM
as well, a tenth of a second later, deletes the whole directory for temporary files: its handler of SIGHUP removes the
last part of the path of its own directory there, deletes that directory, and is interrupted by its handler of SIGTERM,
which does so again. SIGHUP twice does no harm, and a shell at its prompt ignores SIGTERM anyway.
"""

import os
import signal
import stat
import sys
from contextlib import suppress

import psutil

from tasks_lib.process.process_table import read_file

_STANDARD = (0, 1, 2)
_PSEUDO_TERMINALS = range(136, 144)
"""Linux's major device numbers of them."""


def choose_ending(pid: int) -> signal.Signals:
    """Return the signal that asks `pid` to end; a terminal that this process uses too is not about to be closed."""
    has_terminal = _controls_terminal(pid) or _list_open_terminals(pid) - _list_open_terminals(os.getpid())
    return signal.SIGHUP if has_terminal else signal.SIGTERM


def _controls_terminal(pid: int) -> bool:
    """Return whether the session of `pid` has a terminal, and is not the session of this process."""
    with suppress(OSError, psutil.Error):
        if os.getsid(pid) == os.getsid(0):
            return False
        if sys.platform != "linux":
            return psutil.Process(pid).terminal() is not None
        # The program's name is in parentheses and may contain any byte.
        fields = read_file(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
        return len(fields) > 4 and fields[4] != b"0"
    return False


def _list_open_terminals(pid: int) -> set[tuple[int, int]]:
    """The terminals that `pid` has as standard input or output, by device and inode, and none elsewhere than on Linux.

    They stay open after the other end was closed, when the session has no terminal any more. Names would not do: a
    sandbox numbers its own terminals from 0.
    """
    found: set[tuple[int, int]] = set()
    for number in _STANDARD:
        with suppress(OSError):
            one = os.stat(f"/proc/{pid}/fd/{number}")  # noqa: PTH116 - As the rest of /proc here, for speed.
            if stat.S_ISCHR(one.st_mode) and os.major(one.st_rdev) in _PSEUDO_TERMINALS:
                found.add((one.st_dev, one.st_ino))
    return found
