"""Decides what a killed run left half done in the administration of worktrees, and puts it right."""

import time
from collections.abc import Iterator
from pathlib import Path

from tasks_lib.git.entries import MAKING, Entry, drop_dead_locks, list_entries, read_entry
from tasks_lib.git.records import read_git_link
from tasks_lib.git.repository import Repository
from tasks_lib.git.trash import POOL_NAME, discard

_LOCK_SECONDS = 10.0
"""No command of git holds a lock on a ref or on the settings this long; an older one is dead."""


def settle(repository: Repository) -> list[str]:
    """Take every half-made, pooled and dangling worktree of ours out of sight; say what was done, a line each.

    Called under the admin lock, by the holder of the run's lock, before anything is opened. Pooled worktrees hold
    nobody's work, and may be in the middle of a checkout, so they are dropped and made anew.
    """
    lines: list[str] = []
    for entry in list(list_entries(repository)):
        lines += _settle_entry(repository, entry)
    lines += _settle_nameless(repository)
    pool = repository.worktrees_dir / POOL_NAME
    for path in sorted(pool.iterdir()) if pool.is_dir() else []:
        discard(repository, path, None)
        lines.append(f"{path}: removed; it was pooled by an earlier run")
    return lines


def _settle_entry(repository: Repository, entry: Entry) -> list[str]:
    if entry.is_half_made:
        is_ours = entry.is_linked or _is_barely_begun(entry.path)
        discard(repository, entry.path if is_ours else entry.admin / "none", entry.admin)
        return [f"{entry.path}: removed; an earlier run was ended while making it"]
    if entry.path.parent == repository.worktrees_dir / POOL_NAME:
        place = _find_moved(repository, entry)
        discard(repository, place, entry.admin)
        return [f"{place}: removed; it was pooled by an earlier run"]
    if entry.is_linked:
        return [f"{lock}: removed; who held it is gone" for lock in drop_dead_locks(repository, entry)]
    if entry.path.is_dir() and not (entry.path / ".git").exists():
        (entry.path / ".git").write_text(f"gitdir: {entry.admin}\n", "utf-8")
        return [f"{entry.path}: linked to the repository again; its .git was gone"]
    discard(repository, entry.admin / "none", entry.admin)
    return [f"{entry.path}: forgotten; no worktree of ours is there any more"]


def _find_moved(repository: Repository, entry: Entry) -> Path:
    # A move renames the directory and then writes where it went; between the two only the directory itself knows.
    moved = repository.worktrees_dir / (entry.branch or "")
    return moved if entry.branch and read_git_link(moved) == entry.admin else entry.path


def _settle_nameless(repository: Repository) -> list[str]:
    # Git locks an entry first and then writes where its worktree is; the reason says that it was for us.
    root = repository.common_dir / "worktrees"
    lines: list[str] = []
    for admin in sorted(root.iterdir()) if root.is_dir() else []:
        if read_entry(admin) is None and (_is_locked_by_us(admin) or _is_dead_start(admin)):
            discard(repository, admin / "none", admin)
            lines.append(f"{admin}: removed; an earlier run was ended while making it")
    return lines


def _is_locked_by_us(admin: Path) -> bool:
    locked = admin / "locked"
    return locked.is_file() and locked.read_bytes().strip() == MAKING.encode()


def _is_dead_start(admin: Path) -> bool:
    """Whether git was ended before it wrote anything here: no entry of anybody's, and too old to become one."""
    is_old = time.time() - admin.stat().st_mtime > _LOCK_SECONDS
    return is_old and all(path.name in ("locked", "gitdir") and _has_nothing(path) for path in admin.iterdir())


def _is_barely_begun(path: Path) -> bool:
    """Whether git made the directory and at most an empty `.git` in it: it opens a file before it writes to it."""
    if path.is_symlink() or not path.is_dir():
        return False
    found = list(path.iterdir())
    return not found or (len(found) == 1 and found[0].name == ".git" and _has_nothing(found[0]))


def _has_nothing(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def drop_dead_ref_locks(repository: Repository) -> list[str]:
    """Remove lock files of refs and settings that a killed git left; say which.

    Our own refs have no other writer. Others may be held by the user at this moment: those are waited for, until
    they are gone or so old that nobody holds them.
    """
    common = repository.common_dir
    lines: list[str] = []
    for lock in (common / "refs" / "coordinator").rglob("*.lock"):
        lock.unlink(missing_ok=True)
        lines.append(f"{lock}: removed; who held it is gone")
    for lock in _list_shared_locks(common):
        if _is_dead(lock):
            lock.unlink(missing_ok=True)
            lines.append(f"{lock}: removed; it is older than {_LOCK_SECONDS:.0f} seconds")
    return lines


def _list_shared_locks(common: Path) -> Iterator[Path]:
    yield from (common / name for name in ("packed-refs.lock", "config.lock") if (common / name).exists())
    yield from list((common / "refs" / "heads").rglob("*.lock"))


def _is_dead(lock: Path) -> bool:
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            age = time.time() - lock.stat().st_mtime
        except FileNotFoundError:
            return False
        if age > _LOCK_SECONDS or time.monotonic() > end:
            return True
        time.sleep(0.05)
