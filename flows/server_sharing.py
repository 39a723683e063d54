"""How coordinators share the server of a data directory: its record, and the locks of who starts and of who uses it."""

import fcntl
import json
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from tasks_lib.process.files import write_atomically

RECORD = "server.json"
KEPT = "kept.json"
"""Until when a server stays although nobody uses it."""
LONGEST_KEPT_SECONDS = 86_400.0
START_LOCK = "start.lock"
USERS_LOCK = "users.lock"


@dataclass(frozen=True, slots=True)
class Child:
    """A server started by a coordinator; `started` (seconds since the epoch) protects against reused pids."""

    pid: int
    started: float
    port: int

    def process(self) -> psutil.Process | None:
        """The server's process, if it is still running."""
        return find_process(self.pid, self.started)


def find_process(pid: int, started: float) -> psutil.Process | None:
    """The process `pid` that started at `started`, in seconds since the epoch, if it is still running."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


@contextmanager
def mutex(home: Path) -> Generator[None]:
    """Let only one coordinator at a time start or stop the shared server of `home`."""
    with (home / START_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_running(home: Path) -> Child | None:
    """Read the server of `home` if its process is running, whether or not it answers."""
    try:
        child = Child(**json.loads((home / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return child if child.process() else None


def is_last(users: IO[str]) -> bool:
    """Whether no other coordinator uses the server; keeps our own lock on it."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(users, fcntl.LOCK_SH)
        return False
    fcntl.flock(users, fcntl.LOCK_SH)
    return True


def is_unused(home: Path) -> bool:
    """Whether no coordinator uses the server; call it while holding the mutex."""
    with (home / USERS_LOCK).open("w") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def keep(home: Path, child: Child, seconds: float) -> None:
    """Let the server stay for `seconds` from now although nobody uses it, or longer if another run has asked for it."""
    now = time.time()
    until = max(now + seconds, min(read_kept(home, child), now + LONGEST_KEPT_SECONDS))
    record = {**asdict(child), "until": until}
    write_atomically(home / KEPT, json.dumps(record).encode())


def read_kept(home: Path, child: Child) -> float:
    """Until when the server stays although nobody uses it, in seconds since the epoch; 0 if no run has asked for it."""
    try:
        record = json.loads((home / KEPT).read_text(encoding="utf-8"))
        until = float(record.pop("until"))
        return until if Child(**record) == child else 0.0
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return 0.0
