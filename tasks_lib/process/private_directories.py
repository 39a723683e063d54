"""Makes temporary directories outside any repository, and finds those whose process died before removing them."""

import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil

BRIEF = "brief"
"""The owner of a directory for one step of coordinator itself, in any repository, and never for an agent."""
_NAME = re.compile(r"coordinator-(?P<owner>\w+)-(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<started>\d+)-\w+")
_TOLERANCE_SECONDS = 2


def name_owner(place: Path, called: Path | None = None) -> str:
    """Return the owner of directories for the repository with the common git directory `place`, formerly `called`."""
    found = place.stat()
    return _digest(f"{called or place}\0{found.st_dev}\0{found.st_ino}")


def make_private(owner: str = BRIEF) -> Path:
    """Make a directory that only this user may enter; its name contains its owner and the process that made it."""
    pid, started = os.getpid(), int(psutil.Process().create_time())
    return Path(tempfile.mkdtemp(prefix=f"coordinator-{owner}-{_name_machine()}-{pid}-{started}-"))


@contextmanager
def private_directory(owner: str = BRIEF) -> Generator[Path]:
    """Provide a directory made by `make_private` for as long as the block runs."""
    place = make_private(owner)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def find_dead(owner: str) -> list[Path]:
    """Return the directories of `owner`, on this machine and of this user, whose processes are gone."""
    places = (path for path in Path(tempfile.gettempdir()).glob("coordinator-*") if _NAME.fullmatch(path.name))
    return sorted(path for path in places if _is_dead(path, owner))


def _is_dead(path: Path, owner: str) -> bool:
    said = _NAME.fullmatch(path.name)
    if said is None or said["owner"] != owner or said["machine"] != _name_machine() or not _is_own(path):
        return False
    return not is_running(int(said["pid"]), int(said["started"]))


def is_running(pid: int, started: int) -> bool:
    """Return whether the process `pid` that started at `started` (seconds since the epoch) is still running."""
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - started) <= _TOLERANCE_SECONDS
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_own(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


@cache
def _name_machine() -> str:
    # A pid means another process in another container, even if both share a host name and /tmp.
    namespace = Path("/proc/self/ns/pid")
    return _digest(f"{socket.gethostname()}\0{namespace.readlink() if namespace.is_symlink() else ''}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
