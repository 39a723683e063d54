"""Reads, replaces and compares files so that neither a kill nor a file that an agent put there causes harm."""

import os
import stat
import tempfile
from pathlib import Path

UNFINISHED = ".coordinator-"
"""Part of the name of a file that is still being written; nothing else names files like this."""
Stamp = tuple[int, int, int, int]


def write_atomically(
    path: Path,
    data: bytes,
    *,
    mode: int | None = None,
    unfinished: Path | None = None,
    is_durable: bool = False,
) -> None:
    """Replace the content of `path` with `data`; a reader sees either the old content or the new.

    `mode` defaults to that of the old file, or to 0644 if there is none. `unfinished` is the prefix of the temporary
    file's path, by default `path` followed by `UNFINISHED`. The file is synced to disk only if `is_durable`: otherwise
    a power failure can lose the last write, which costs a number or a view, never an agent's work.
    """
    begun = unfinished or path.with_name(f"{path.name}{UNFINISHED}")
    descriptor, name = tempfile.mkstemp(prefix=begun.name, dir=begun.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), _find_mode(path) if mode is None else mode)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _find_mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644


def find_unfinished(directory: Path) -> list[Path]:
    """Return the files that a killed writer left in `directory`; call this only while nothing is writing there."""
    return sorted(directory.glob(f"?*{UNFINISHED}*")) if directory.is_dir() else []


def read_regular(path: Path, limit: int, start: int = 0) -> bytes:
    """Return at most the last `limit` bytes of a regular file, from `start` on; raises OSError for anything else.

    An agent may have put a pipe there, which would block its reader forever, or a link to an endless device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(f"{path} is a directory")
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is not a regular file")
        # Only now, because `fdopen` refuses a directory and then leaves its descriptor open.
        with os.fdopen(descriptor, "rb", closefd=False) as source:
            source.seek(max(start, found.st_size - limit))
            return source.read(limit)
    finally:
        os.close(descriptor)


def read_stamp(path: Path, *, follows_links: bool = False) -> Stamp | None:
    """Return a file's identity, size and times, to detect that it changed; None if the file does not exist."""
    try:
        found = path.stat(follow_symlinks=follows_links)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode


def remove_empty_parents(path: Path, top: Path) -> None:
    """Remove the empty directories above `path`, up to but not including `top`; nothing outside `top`."""
    for parent in path.parents:
        if parent == top or not parent.is_relative_to(top):
            return
        try:
            parent.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return
