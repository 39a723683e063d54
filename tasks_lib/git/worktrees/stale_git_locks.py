"""Decides which lock files of git are dead, and removes only those.

Apart from this, only `interrupted_fast_forward` removes locks: those of the move that it restores.

A lock is removed only in two cases, and only if no process holds it (see `tasks_lib.process.lock_holders`):

- It is coordinator's own: in an entry that has coordinator's record, on a node's branch, or on a ref below
  `refs/coordinator/`. Agents that were ended and runs that were killed leave such locks.
- It is one that both runs and users take (`packed-refs.lock`, `config.lock`), a run died in this repository, and the
  lock was created since that run began.

Every other lock is the user's. It is reported and left in place, however old it is.
"""

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock, read_since
from tasks_lib.git.worktree_admin import Entry, list_all, list_entries
from tasks_lib.git.worktrees.stale_files import OLD_SECONDS, is_old
from tasks_lib.process.captured_output import list_running
from tasks_lib.process.files import read_stamp
from tasks_lib.process.lock_holders import DirectoryTree, find_holder

OWN_SECONDS = 2.0
"""A lock of coordinator's own that is older has no undetected holder: such programs hold a lock only for an instant."""
WAIT_SECONDS = 5.0
"""How long to wait for a running git command; most hold a lock for less than a second."""
_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 0.5
"""Each look for the holder reads the tables of all processes."""
_CLOCK_SECONDS = 1.0
"""How far the clock of a file system may be behind."""
DROPPED = "removed; the process that held it is gone"
_SHARED = ("packed-refs.lock", "config.lock")


@dataclass(frozen=True, slots=True)
class Locks:
    """Lock files of git by owner: `own` are coordinator's, `shared` may be, `foreign` are the user's."""

    own: tuple[Path, ...]
    shared: tuple[Path, ...]
    foreign: tuple[Path, ...]


def find_locks(repository: Repository, branches: Collection[str]) -> Locks:
    """The lock files of refs and settings that exist now; `branches` are those of the graph's nodes."""
    common = repository.common_dir
    heads = common / "refs" / "heads"
    taken = {entry.branch for entry in list_entries(repository) if entry.branch}
    ours = {heads / f"{branch}.lock" for branch in {*branches, *taken}}
    found = sorted((common / "refs").rglob("*.lock"))
    own = tuple(lock for lock in found if lock in ours or lock.is_relative_to(common / "refs" / "coordinator"))
    shared = tuple(common / name for name in _SHARED if (common / name).exists())
    beside = tuple(lock for lock in sorted(common.glob("*.lock")) if lock not in shared)
    return Locks(own, shared, (*beside, *(lock for lock in found if lock not in own)))


def find_entry_locks(entry: Entry) -> list[Path]:
    """The lock files in the administrative directory of an entry with coordinator's record; none for other entries."""
    return sorted(entry.admin.rglob("*.lock")) if entry.is_ours else []


def find_dead(repository: Repository, branches: Collection[str]) -> list[Path]:
    """The locks of refs, settings and worktrees that `drop_ref_locks` and `drop_entry_locks` would remove now."""
    locks = find_locks(repository, branches)
    entries = [entry for entry in list_entries(repository) if entry.is_linked]
    own = [*locks.own, *(lock for entry in entries for lock in find_entry_locks(entry))]
    dead = [lock for lock in own if not _find_holder(repository, lock)]
    return [
        *dead,
        *(lock for lock in locks.shared if is_left(repository, lock) and not _find_holder(repository, lock)),
    ]


def drop_ref_locks(repository: Repository, branches: Collection[str], held: HeldRunLock) -> list[str]:
    """Remove dead locks of refs and settings; return a line for each, and for each that stays and is in the way.

    Call when the processes of an earlier run have ended. Waits up to `WAIT_SECONDS` in total for running commands.
    """
    locks = find_locks(repository, branches)
    end = time.monotonic() + WAIT_SECONDS
    lines = [line for lock in locks.own if (line := drop_own(repository, lock, end))]
    for lock in locks.shared:
        if not is_left(repository, lock):
            lines += _tell_foreign(lock)
        elif line := drop_own(repository, lock, end):
            lines.append(line)
    return [*lines, *(line for lock in locks.foreign for line in _tell_foreign(lock))]


def describe_foreign_locks(repository: Repository, branches: Collection[str]) -> list[str]:
    """The lines that `drop_ref_locks` returns for locks that it does not touch: one for each that is old."""
    locks = find_locks(repository, branches)
    shared = (lock for lock in locks.shared if not is_left(repository, lock))
    return [line for lock in (*shared, *locks.foreign) for line in _tell_foreign(lock)]


def drop_entry_locks(repository: Repository, entry: Entry) -> list[str]:
    """Remove the dead locks of a coordinator worktree and its branch; return a line for each, removed or left."""
    locks = find_entry_locks(entry)
    if branch := entry.branch:
        locks.append(find_branch_lock(repository, branch))
    end = time.monotonic() + WAIT_SECONDS
    return [line for lock in locks if (line := drop_own(repository, lock, end, entry))]


def find_branch_lock(repository: Repository, branch: str) -> Path:
    """The path of git's lock on `branch`, whether it exists or not."""
    return repository.common_dir / "refs" / "heads" / f"{branch}.lock"


def drop_own(repository: Repository, lock: Path, end: float, entry: Entry | None = None) -> str:
    """Remove one of coordinator's own locks once it is dead; return what was done or what holds it, "" if it was gone.

    Waits for the holder until `end` (monotonic seconds). Call without the admin lock. `entry` is the worktree that the
    lock belongs to, if any: agents in other worktrees cannot hold it.
    """
    pause = _PAUSE_SECONDS
    while (stamp := read_stamp(lock)) is not None:
        holder = _find_holder(repository, lock, entry)
        if not holder and (is_left(repository, lock) or is_old(lock, OWN_SECONDS)):
            # The lock may have been replaced since its stamp was read.
            if read_stamp(lock) == stamp:
                lock.unlink(missing_ok=True)
                return f"{lock}: {DROPPED}"
        elif time.monotonic() > end:  # Without a holder, it was recreated before every check.
            return f"{lock}: is held by {holder or 'an unknown process'} and stays"
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
    return ""


def find_git_at_work(repository: Repository, path: Path) -> str:
    """The process that could be writing `path` in the git directory, such as "process 12 (git)"; "" if none."""
    return _find_holder(repository, path)


def _tell_foreign(lock: Path) -> list[str]:
    said = f"a lock file that is not Coordinator's, over {OLD_SECONDS:.0f} seconds old; delete it if no git is running"
    return [f"{lock}: {said}"] if is_old(lock) else []


def is_left(repository: Repository, path: Path) -> bool:
    """Whether a run died here, and `path` was last written after its start."""
    since = read_since(repository.state_dir)
    with suppress(OSError):
        return since > 0 and path.lstat().st_mtime >= since - _CLOCK_SECONDS
    return False


def _find_holder(repository: Repository, lock: Path, entry: Entry | None = None) -> str:
    return find_holder(lock, _list_directories(repository, lock, entry), list_running())


def _list_directories(repository: Repository, lock: Path, entry: Entry | None) -> Sequence[DirectoryTree]:
    """The directories in which a git command that could hold `lock` runs."""
    entry = entry or next((one for one in list_entries(repository) if lock.is_relative_to(one.admin)), None)
    own = [DirectoryTree(entry.path), DirectoryTree(entry.admin)] if entry else []
    if entry and lock.is_relative_to(entry.admin):
        return own
    main = DirectoryTree(repository.top, except_below=repository.worktrees_dir if entry else None)
    linked = [
        DirectoryTree(one.path) for one in list_all(repository) if not one.path.is_relative_to(repository.worktrees_dir)
    ]
    return [*own, main, DirectoryTree(repository.common_dir), *linked]
