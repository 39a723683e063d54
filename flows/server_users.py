"""Records which coordinators use a server, for people: what keeps it running, and what ends it.

Whether the server of the data directory is in use is decided by the lock that its users hold, never by these records:
a process that is killed leaves its record, which the next reader removes.
"""

import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

import psutil

from flows.data_directory import data_dir
from flows.server_sharing import find_process
from tasks_lib.process.files import write_atomically
from tasks_lib.text import read_count

USERS = "users"
"""In a server's home, the directory with one record for each user."""


class Stage(StrEnum):
    """How far a user is: `SERVING` once a person can use what it starts, `ENDING` once it was told to end."""

    STARTING = "starting"
    SERVING = "serving"
    ENDING = "ending"


@dataclass(frozen=True, slots=True)
class User:
    """A coordinator that uses a server, known by `pid` and `started`, in seconds since the epoch.

    `repository` is the path that a run works on, "" for `coordinator up`. `ui` is the address of Prefect's UI once it
    is known. `is_detached` says whether it is a `coordinator up --detach`.
    """

    pid: int
    started: float
    repository: str = ""
    ui: str = ""
    stage: str = Stage.STARTING
    is_detached: bool = False

    def process(self) -> psutil.Process | None:
        """The user's process, if it is still running."""
        return find_process(self.pid, self.started)

    def __str__(self) -> str:
        if self.repository:
            return f"a run in {self.repository} (process {self.pid})"
        where = "in the background" if self.is_detached else "in a terminal or service"
        return f"`coordinator up` {where} (process {self.pid})"


Note = Callable[[Stage, str], None]
"""Records the stage of a user, and the UI's address."""


@contextmanager
def recorded(repository: str = "", *, is_detached: bool = False) -> Generator[Note]:
    """Record this process as a user while the block runs."""
    home = data_dir() / "prefect"
    list_users(home)  # Removes what killed users have left.
    (home / USERS).mkdir(parents=True, exist_ok=True)
    file = home / USERS / f"{os.getpid()}.json"
    user = User(os.getpid(), psutil.Process().create_time(), repository, is_detached=is_detached)

    def note(stage: Stage, ui: str) -> None:
        write_atomically(file, json.dumps(asdict(replace(user, stage=stage, ui=ui))).encode())

    note(Stage.STARTING, "")
    try:
        yield note
    finally:
        file.unlink(missing_ok=True)


def list_users(home: Path) -> list[User]:
    """The coordinators that use a server now; removes the records of those that were killed."""
    found: list[User] = []
    for file in sorted((home / USERS).glob("*")):
        user = _read(file)
        if user and user.process():
            found.append(user)
        elif user or not _is_running(file.name.partition(".")[0]):
            file.unlink(missing_ok=True)
    return found


def find_detached(home: Path) -> User | None:
    """The `coordinator up --detach` that is running, if any."""
    return next((user for user in list_users(home) if user.is_detached), None)


def _read(file: Path) -> User | None:
    """The user that is recorded in `file`, None if it is being written, or of another release."""
    try:
        return User(**json.loads(file.read_text(encoding="utf-8"))) if file.suffix == ".json" else None
    except (OSError, ValueError, TypeError):
        return None


def _is_running(pid: str) -> bool:
    """Whether the process that a record is named after may still be writing it."""
    number = read_count(pid)
    return number is not None and psutil.pid_exists(number)
