"""Reads what the processes of a session have done so far, and which of them wait for a person to type."""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks_lib.process.process_table import Claim, Row, read_file, read_table, select
from tasks_lib.session.liveness import ProcessSample, Sample

_TERMINAL = re.compile(r"/dev/(pts/\d+|tty\w*|console)$")
_SHELLS = frozenset({"bash", "dash", "fish", "ksh", "mksh", "sh", "zsh"})
_CLIENTS = frozenset({
    "buildctl", "distrobox", "docker", "flatpak-spawn", "incus", "kubectl", "limactl", "lxc", "machinectl",
    "mosh-client", "nerdctl", "oc", "podman", "ssh", "systemd-run", "toolbox", "vagrant",
})  # fmt: skip
"""Programs that only wait while others work for them, outside of their process tree."""
_TICKS = os.sysconf("SC_CLK_TCK")


class RecentTable:
    """The process table for all sessions, read again only when the last reading is older than a caller accepts."""

    def __init__(self, read: Callable[[], list[Row]] = read_table) -> None:
        self._read: Callable[[], list[Row]] = read
        self._lock: threading.Lock = threading.Lock()
        self._rows: list[Row] = []
        self._at: float = -1.0

    def rows(self, max_age_seconds: float) -> Sequence[Row]:
        """The table as it was at most `max_age_seconds` ago."""
        with self._lock:
            if self._at < 0 or time.monotonic() - self._at > max_age_seconds:
                self._rows = self._read()
                self._at = time.monotonic()
            return self._rows


TABLE = RecentTable()


def take_sample(claim: Claim, log: Path | None, max_age_seconds: float) -> Sample | None:
    """What the processes that `claim` covers have done, and the size of `log`, if there is one.

    None on systems without Linux's /proc. Processes that started in the last `max_age_seconds` may be missing. Takes
    about 0.1 ms for each process.
    """
    if sys.platform != "linux":
        return None
    rows = select(TABLE.rows(max_age_seconds), claim, os.getpid())
    read = [_read_process(row) for row in rows]
    size = log.stat().st_size if log and log.exists() else 0
    is_complete = all(_shows_its_work(one) for one in read if one)
    return Sample(time.time(), size, tuple(one for one in read if one), is_complete)


def _read_process(row: Row) -> ProcessSample | None:
    """Read one process; None if it has ended."""
    stat = read_file(f"/proc/{row.pid}/stat")
    if not stat:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    used, reaped = (sum(map(int, fields[at : at + 2])) / _TICKS for at in (11, 13))
    command = read_file(f"/proc/{row.pid}/cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()
    waits = fields[0] == b"S" and int(fields[4]) != 0 and fields[2] == fields[5] and _waits_for_input(row.pid, command)
    return ProcessSample(row.pid, row.parent, row.started, command, used, reaped, _read_io(row.pid), waits)


def _shows_its_work(process: ProcessSample) -> bool:
    """Whether what the process does can be seen: not if it belongs to another user, or others work for it."""
    program = Path(process.command.partition(" ")[0]).name
    return program not in _CLIENTS and os.access(f"/proc/{process.pid}/io", os.R_OK)


def _read_io(pid: int) -> int:
    """What the process itself read and wrote: the sum of its threads, as its own file also counts ended children."""
    total = 0
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - Called often, and Path objects cost more.
    except OSError:
        return 0
    for thread in threads:
        counted = re.findall(rb"^[rw]char: (\d+)$", read_file(f"/proc/{pid}/task/{thread}/io"), re.MULTILINE)
        total += sum(map(int, counted))
    return total


def _waits_for_input(pid: int, command: str) -> bool:
    """Whether a sleeping process in the foreground of a terminal reads from it, or waits until it can.

    A shell at its prompt does so too, but nobody waits for it: an agent has opened a terminal for later commands.
    """
    words = command.split()
    if not words or (Path(words[0].lstrip("-")).name in _SHELLS and len(words) == 1):
        return False
    sleeps_in = read_file(f"/proc/{pid}/wchan")
    if sleeps_in.startswith((b"poll_schedule", b"do_select", b"do_poll")):
        return _is_terminal(pid, 0)
    if sleeps_in in (b"wait_woken", b"n_tty_read"):  # A read from a socket sleeps there too.
        call = read_file(f"/proc/{pid}/syscall").split()
        return len(call) > 1 and _is_terminal(pid, int(call[1], 16))
    return False


def _is_terminal(pid: int, descriptor: int) -> bool:
    try:
        return bool(_TERMINAL.match(os.readlink(f"/proc/{pid}/fd/{descriptor}")))  # noqa: PTH115 - As above.
    except OSError:
        return False
