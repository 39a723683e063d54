"""Lets one worker for sessions, or one cleanup after it, use a data directory at a time."""

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tasks_lib.errors import InputError


@contextmanager
def holding_worker_lock(data: Path) -> Generator[None]:
    """Let one worker use the data directory at a time. Raises InputError if another one does."""
    place = data / "spokes"
    place.mkdir(exist_ok=True)
    with (place / "worker.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = f"another `coordinator spoke start` on this machine uses {data}"
            raise InputError([f"{what}; stop it, or set COORDINATOR_DATA_DIR for this one"]) from error
        yield


def is_worker_running(data: Path) -> bool:
    """Whether a worker uses the data directory now."""
    try:
        with (data / "spokes" / "worker.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
