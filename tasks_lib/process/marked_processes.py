"""Marks the processes that a coordinator starts, and finds and ends those that a killed coordinator left running."""

import asyncio
import os
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from tasks_lib.errors import AgentError
from tasks_lib.process.captured_output import list_running
from tasks_lib.process.ending_signals import choose_ending
from tasks_lib.process.process_table import list_carriers

ROUNDS = 5
"""A process that is being ended may start others; what is still running after this many rounds cannot be ended."""

_LOOK_SECONDS = 0.02


@contextmanager
def marked(name: str, value: str) -> Generator[None]:
    """Mark this process and all that it starts, such as git, so that the next run can find them after a kill."""
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


def find_marked(name: str, value: str, *, has_own: bool = True) -> list[psutil.Process]:
    """Return the processes that have `name` set to `value`, except this process and its ancestors.

    Without `has_own`, programs that this process is running now, such as git, are left out with all that they have
    started: what they do counts.
    """
    mine = psutil.Process()
    spared = {mine.pid, *(parent.pid for parent in mine.parents())}
    found: list[psutil.Process] = []
    for pid in _list_candidates(name, value):
        with suppress(psutil.Error, OSError):
            if pid not in spared and (process := psutil.Process(pid)).environ().get(name) == value:
                found.append(process)
    # Looked up last: others may have been started meanwhile.
    busy = frozenset[int]() if has_own else list_running()
    return [process for process in found if not busy or busy.isdisjoint(_list_line(process))]


def _list_line(process: psutil.Process) -> Iterable[int]:
    """Return the process and its ancestors."""
    with suppress(psutil.Error):
        return [process.pid, *(parent.pid for parent in process.parents())]
    return [process.pid]


def _list_candidates(name: str, value: str) -> Iterable[int]:
    """Return the processes to look at: psutil takes more than twice as long to read all of them."""
    return list_carriers(os.fsencode(f"{name}={value}")) if sys.platform == "linux" else psutil.pids()


def find_marked_inside(name: str, value: str, place: Path, *, has_own: bool = True) -> list[psutil.Process]:
    """Return those of `find_marked` that run in `place` or below: they follow a directory that is moved."""
    found: list[psutil.Process] = []
    for process in find_marked(name, value, has_own=has_own):
        with suppress(psutil.Error, OSError):
            if Path(process.cwd()).is_relative_to(place):
                found.append(process)
    return found


async def end_marked(
    name: str, value: str, stop_seconds: float, *, inside: Path | None = None, has_own: bool = True
) -> int:
    """End every process that `find_marked` finds, as `choose_ending` says, and by KILL after `stop_seconds`.

    Returns how many there were. With `inside`, only those that run there or below. Their exit statuses are left to what
    started them. Raises AgentError if one cannot be ended.
    """
    ended: set[int] = set()
    for _ in range(ROUNDS):
        look = partial(find_marked_inside, place=inside) if inside else find_marked
        found = await asyncio.to_thread(look, name, value, has_own=has_own)
        if not found:
            return len(ended)
        ended |= {process.pid for process in found}
        chosen = [(process, choose_ending(process.pid)) for process in found]
        for process, number in chosen:
            with suppress(psutil.Error):
                process.send_signal(number)
        alive = await asyncio.to_thread(_wait_until_ended, found, stop_seconds)
        for process in alive:
            with suppress(psutil.Error):
                process.kill()
        await asyncio.to_thread(_wait_until_ended, alive, stop_seconds)
    raise AgentError(f"processes of an earlier run cannot be ended: {sorted(ended)}; end them and run again")


def _wait_until_ended(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until none of `processes` runs, at most `seconds`; return those that still do.

    psutil's own `wait_procs` takes the exit status of a child, after which Python reports 0 to what started it: a push
    that was ended would count as done.
    """
    deadline = time.monotonic() + seconds
    while (running := [one for one in processes if _is_running(one)]) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return running


def _is_running(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
