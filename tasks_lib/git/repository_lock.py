"""Decides who may work on a repository: one run at a time, and one change of its worktrees at a time."""

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

_TRIES = 10
_PAUSE_SECONDS = 0.02
"""Somebody who only asks who holds the lock has it for microseconds, so a refusal is believed after a few tries."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a run's lock: `started` is ISO 8601 in UTC; what could not be read is "" or 0."""

    host: str = ""
    pid: int = 0
    run: str = ""
    started: str = ""

    def __str__(self) -> str:
        name = f"run {self.run}" if self.run else "a run"
        return f"{name} (process {self.pid or '?'} on {self.host or '?'}, started {self.started or '?'})"


class HasStateDir(Protocol):
    """What `admin_lock` needs of a repository."""

    @property
    def state_dir(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class HeldRunLock:
    """Proof that this process holds the run's lock of `state_dir`: a parameter of whatever is done only under it.

    Only `with RunLock(...) as lock` makes one. `left` is who died, or broke off, holding it before; None for nobody.
    """

    state_dir: Path
    left: Holder | None = None


class RunLock:
    """The lock `<state_dir>/lock` that a run holds from its start to its end; use it as a context manager.

    It is a `flock`, so the kernel releases it when its holder dies. The file stays, since another process may be
    waiting on that very file; its content says who holds it. Entering raises BusyError while another holds it,
    InputError if the file cannot be used.
    """

    def __init__(self, state_dir: Path, run: str) -> None:
        self.state_dir: Path = state_dir
        self.run: str = run
        self._descriptor: int | None = None

    def __enter__(self) -> HeldRunLock:
        descriptor = _open(self.state_dir / "lock")
        try:
            _require(descriptor, self.state_dir)
            left, since = _read_content(descriptor), _read_since(descriptor)
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
            _release(descriptor)


def read_holder(state_dir: Path) -> Holder | None:
    """Who holds the run's lock at this moment, or None if nobody does."""
    is_held, said = _look(state_dir)
    return (said or Holder()) if is_held else None


def read_dead_holder(state_dir: Path) -> Holder | None:
    """Who held the run's lock last and died holding it, or None if it is held, or was given back."""
    is_held, said = _look(state_dir)
    return None if is_held else said


def read_since(state_dir: Path) -> float:
    """When the first of the runs in a row began that died here, in seconds since the epoch; 0 where none did.

    What such a run left was made since then. The holder of the lock carries it on until it gives the lock back, so that
    a run that dies while it puts right what another left loses nothing of it.
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


def _look(state_dir: Path) -> tuple[bool, Holder | None]:
    """Whether somebody holds the run's lock, and what its content says."""
    try:
        # To read is enough, and is what another user's lock allows.
        descriptor = _open_plain(state_dir / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False, None
    except OSError as error:
        raise _describe_unusable(state_dir / "lock", error) from error
    # Shared, so that two who ask at once do not take each other for a holder.
    is_free = _take(descriptor, fcntl.LOCK_SH)
    try:
        return not is_free, _read_content(descriptor)
    finally:
        _release(descriptor) if is_free else os.close(descriptor)


@contextmanager
def admin_lock(repository: HasStateDir) -> Generator[None, None, None]:
    """Hold the lock around worktree add, move, remove, prune and list, around fetches and writes of git's config.

    Without it one parallel `worktree add` in ten fails. It is the file `worktrees.lock` beside the run's lock, since
    a command that is no run takes it too. Each holder opens the file anew, and a `flock` belongs to what was opened,
    so it excludes the threads of one process as well. Not to be taken twice by one thread: it would wait for itself.
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
    # Never through a symbolic link: what it leads to would be cut to nothing. Nor may a pipe in its place hold us up.
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
    for _ in range(_TRIES):
        if _take(descriptor, fcntl.LOCK_EX):
            return
        time.sleep(_PAUSE_SECONDS)
    raise BusyError(_describe_busy(descriptor, state_dir))


def _release(descriptor: int) -> None:
    # Unlocked aloud: a child that is between fork and exec still has the descriptor, and would hold the lock on.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _read_words(descriptor: int) -> dict[str, object]:
    try:
        found: object = json.loads(os.pread(descriptor, 4096, 0))
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", found) if isinstance(found, dict) else {}


def _read_since(descriptor: int) -> str:
    """Since when runs have died here without one that came to its end, as they wrote it; "" for none."""
    words = _read_words(descriptor)
    return str(words.get("since") or words.get("started") or "")


def _parse_time(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp() if text else 0.0
    except ValueError:
        return 0.0


def _read_content(descriptor: int) -> Holder | None:
    """What a holder wrote, with nothing in it where that cannot be read; None where nothing is written."""
    if not os.pread(descriptor, 4096, 0).strip():
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
