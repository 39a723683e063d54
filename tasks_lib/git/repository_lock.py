"""Locks a repository: one run at a time, and one change to its worktrees at a time; and tells of runs that start."""

import errno
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, cast

from tasks_lib.errors import BusyError, InputError

_RECORD_BYTES = 4096
_TRIES = 10
_PAUSE_SECONDS = 0.02
"""A process that only queries the holder takes the lock for microseconds, so only several refusals mean it is busy."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of the run lock: `started` is ISO 8601 in UTC; fields that could not be read are "" or 0."""

    host: str = ""
    pid: int = 0
    run: str = ""
    started: str = ""

    def __str__(self) -> str:
        name = f"run {self.run}" if self.run else "a run"
        return f"{name} (process {self.pid or '?'} on {self.host or '?'}, started {self.started or '?'})"


class HasStateDir(Protocol):
    """The part of a repository that `admin_lock` needs."""

    @property
    def state_dir(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class HeldRunLock:
    """Proof that this process holds the run lock of `state_dir`; functions that need the lock take it as a parameter.

    Only `with RunLock(...) as lock` creates one. `left` is the previous holder if it died or was interrupted while
    holding the lock, else None.
    """

    state_dir: Path
    left: Holder | None = None


class RunLock:
    """The lock `<state_dir>/lock` that a run holds from start to end; use it as a context manager.

    It is a `flock`, so the kernel releases it when its holder dies. The file is never removed, since another process
    may be waiting on it; its content describes the holder. Entering raises BusyError while another process holds it,
    and InputError if the file cannot be used.

    With `keeps_record`, for a command that does not clean up after a dead holder, the description of that holder is
    written back at the end, so that the next run still finds it.
    """

    def __init__(self, state_dir: Path, run: str, *, keeps_record: bool = False) -> None:
        self.state_dir: Path = state_dir
        self.run: str = run
        self._keeps_record = keeps_record
        self._record: bytes = b""
        self._descriptor: int | None = None

    def __enter__(self) -> HeldRunLock:
        descriptor = _open(self.state_dir / "lock")
        try:
            _require(descriptor, self.state_dir)
            left, since = _read_content(descriptor), _read_since(descriptor)
            self._record = os.pread(descriptor, _RECORD_BYTES, 0) if self._keeps_record else b""
            holder = Holder(socket.gethostname(), os.getpid(), self.run, datetime.now(UTC).isoformat())
            os.ftruncate(descriptor, 0)
            content = {**asdict(holder), "since": since}
            os.pwrite(descriptor, json.dumps(content).encode() + b"\n", 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return HeldRunLock(self.state_dir, left)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, self._record, 0)
            _release(descriptor)


def read_holder(state_dir: Path) -> Holder | None:
    """Return the current holder of the run lock, or None if it is free."""
    is_held, said = _read_lock_state(state_dir)
    return (said or Holder()) if is_held else None


def read_dead_holder(state_dir: Path) -> Holder | None:
    """Return the last holder of the run lock if it died holding it; None if the lock is held or was released."""
    is_held, said = _read_lock_state(state_dir)
    return None if is_held else said


@contextmanager
def announcing_start(state_dir: Path) -> Generator[None, None, None]:
    """Tell other processes during the block that a run starts here, which does not hold the run lock yet.

    It is a `flock` of the file `<state_dir>/starting`, so it ends with its process. If another process already tells of
    its own start, or the file cannot be used, nothing is told: nobody depends on it.
    """
    try:
        descriptor = _open(state_dir / "starting")
    except InputError:
        yield
        return
    try:
        is_told = _try_repeatedly(descriptor)
        try:
            yield
        finally:
            if is_told:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def is_starting(state_dir: Path) -> bool:
    """Return whether a run starts here: it will take the run lock soon, unless it fails to start."""
    try:
        descriptor = _open_plain(state_dir / "starting", os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _take(descriptor, fcntl.LOCK_SH)
    except InputError:
        return False
    finally:
        os.close(descriptor)


def read_since(state_dir: Path) -> float:
    """Return the start of the first run that died here since one last ended properly, in epoch seconds; 0 for none.

    Everything that such runs left behind was created since then. The holder of the lock keeps the time in the file
    until it releases the lock, so that it survives a run that dies while cleaning up after another.
    """
    try:
        descriptor = _open_plain(state_dir / "lock", os.O_RDONLY)
    except OSError:
        return 0.0
    try:
        is_held = not _take(descriptor, fcntl.LOCK_SH)
        words = _read_words(descriptor)
        return _parse_time(words.get("since") if is_held else words.get("since") or words.get("started"))
    finally:
        os.close(descriptor)


def _read_lock_state(state_dir: Path) -> tuple[bool, Holder | None]:
    """Return whether the run lock is held, and the holder that its file describes."""
    try:
        # Read access is enough, and is all that another user's lock file allows.
        descriptor = _open_plain(state_dir / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False, None
    except OSError as error:
        raise _describe_unusable(state_dir / "lock", error) from error
    # Shared, so that two concurrent queries do not mistake each other for a holder.
    is_free = _take(descriptor, fcntl.LOCK_SH)
    try:
        return not is_free, _read_content(descriptor)
    finally:
        _release(descriptor) if is_free else os.close(descriptor)


@contextmanager
def admin_lock(repository: HasStateDir) -> Generator[None, None, None]:
    """Hold the lock for worktree add, move, remove, prune and list, for fetches, and for writes to git's config.

    Without it, one parallel `worktree add` in ten fails. It is the file `worktrees.lock` next to the run lock, since
    commands that are not runs take it too. Each holder opens the file again, and a `flock` belongs to the open file
    description, so it also excludes threads of the same process. Not reentrant: a thread that takes it twice deadlocks.
    """
    descriptor = _open(repository.state_dir / "worktrees.lock")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        _release(descriptor)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _open_plain(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise _describe_unusable(path, error) from error


def _open_plain(path: Path, flags: int) -> int:
    # Never follow a symbolic link: its target would be truncated. Never block on a pipe in the file's place either.
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def _describe_unusable(path: Path, error: OSError) -> InputError:
    why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
    return InputError(
        [f"{path} cannot be used as a lock: {why}. Make it a writable file, or remove it if no run is in progress."]
    )


def _take(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        path = Path(f"/dev/fd/{descriptor}")
        raise _describe_unusable(path.readlink() if path.is_symlink() else path, error) from error
    return True


def _require(descriptor: int, state_dir: Path) -> None:
    if not _try_repeatedly(descriptor):
        raise BusyError(_describe_busy(descriptor, state_dir))


def _try_repeatedly(descriptor: int) -> bool:
    for _ in range(_TRIES):
        if _take(descriptor, fcntl.LOCK_EX):
            return True
        time.sleep(_PAUSE_SECONDS)
    return False


def _release(descriptor: int) -> None:
    # Unlock explicitly: a child between fork and exec still has the descriptor, and would keep the lock.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _read_words(descriptor: int) -> dict[str, object]:
    try:
        found: object = json.loads(os.pread(descriptor, _RECORD_BYTES, 0))
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}


def _read_since(descriptor: int) -> str:
    """Return the start, in ISO 8601, of the first run that died here since one last ended properly; "" for none."""
    words = _read_words(descriptor)
    return str(words.get("since") or words.get("started") or "")


def _parse_time(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp() if text else 0.0
    except ValueError:
        return 0.0


def _read_content(descriptor: int) -> Holder | None:
    """Return the holder that the file describes: empty if unreadable, None if the file is empty."""
    if not os.pread(descriptor, _RECORD_BYTES, 0).strip():
        return None
    words = _read_words(descriptor)
    pid = words.get("pid")
    return Holder(
        host=str(words.get("host", "")),
        pid=pid if isinstance(pid, int) else 0,
        run=str(words.get("run", "")),
        started=str(words.get("started", "")),
    )


def _describe_busy(descriptor: int, state_dir: Path) -> str:
    holder = _read_content(descriptor) or Holder()
    return (
        f"{state_dir.parent}: {holder} is using this repository. Wait for it to end, or stop it, and try again; "
        "`coordinator status` shows what it does."
    )
