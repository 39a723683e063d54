"""Hides how files are read, replaced and compared so that neither a kill nor what an agent put there does harm."""

import os
import stat
import tempfile
from pathlib import Path

UNFINISHED = ".coordinator-"
"""Stands in the name of a file that is being written and not yet in its place; nobody else names files so."""
Stamp = tuple[int, int, int, int]


def write_atomically(
    path: Path,
    data: bytes,
    *,
    mode: int | None = None,
    unfinished: Path | None = None,
    is_durable: bool = False,
) -> None:
    """Replace the content of `path` by `data`; a reader sees the old one or the new one.

    `mode` is by default that of the old file, 0644 where there is none. `unfinished`, by default `path` with
    `UNFINISHED`, is how the name of the file begins until it is whole. It is forced to disk only if `is_durable`:
    otherwise a power failure may take what was written last, which costs a number or a view, never work.
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
    """What a kill left of writing a file in `directory`; who calls knows that nobody is writing there now."""
    return sorted(directory.glob(f"?*{UNFINISHED}*")) if directory.is_dir() else []


def read_regular(path: Path, limit: int, start: int = 0) -> bytes:
    """The bytes of a regular file from `start` on, at most the last `limit` of them; raises OSError for anything else.

    An agent may have put a pipe there, which would hold its reader for ever, or a link to an endless device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(f"{path} is a directory")
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is no regular file")
        # Not before: a directory is refused there, and its descriptor stays open.
        with os.fdopen(descriptor, "rb", closefd=False) as source:
            source.seek(max(start, found.st_size - limit))
            return source.read(limit)
    finally:
        os.close(descriptor)


def read_stamp(path: Path, *, follows_links: bool = False) -> Stamp | None:
    """How a file looks from outside: another value means that it may be another; None if there is none."""
    try:
        found = path.stat(follow_symlinks=follows_links)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode


def remove_empty_parents(path: Path, top: Path) -> None:
    """Remove the directories above `path` that are empty, up to `top`, which stays; nothing outside of `top`."""
    for parent in path.parents:
        if parent == top or not parent.is_relative_to(top):
            return
        try:
            parent.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return
