"""Finds what a killed run left incomplete in the administrative files of worktrees, and repairs or removes it."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import assert_never

from tasks_lib.git.kept.unreferenced_commits import keep_dangling
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock
from tasks_lib.git.session_record import read_git_link, read_record
from tasks_lib.git.worktree_admin import MAKING, Entry, list_entries, read_entry
from tasks_lib.git.worktrees.deletion import POOL_NAME, delete, discard
from tasks_lib.git.worktrees.stale_files import find_unfinished_files, is_old
from tasks_lib.git.worktrees.stale_git_locks import find_git_at_work, is_left
from tasks_lib.process.files import read_stamp

UNFINISHED_DID = "removed; an earlier run was killed while writing it"


class StaleState(Enum):
    """What a kill left of a worktree; the value is the reported text: what is done about it, and why."""

    HALF_MADE = "removed; an earlier run was killed while creating it"
    POOLED = "removed; it was pooled by an earlier run"
    UNLINKED = "linked to the repository again; its .git was missing"
    GONE = "removed from git; its worktree no longer exists"
    FOREIGN = "was not created by Coordinator, and stays"


@dataclass(frozen=True, slots=True)
class StaleWorktree:
    """A worktree at `path` that must not be used as it is; `entry` is git's entry for it, `admin` the entry's path."""

    state: StaleState
    path: Path
    admin: Path | None = None
    entry: Entry | None = None


def find_stale_worktrees(repository: Repository) -> list[StaleWorktree]:
    """Every half-made, pooled and dangling worktree of coordinator's, in the order in which they are handled.

    Pooled worktrees contain no one's work, and may have been killed during a checkout. A worktree without coordinator's
    record (see `Entry.is_ours`) is left out, except in the pool's directory, where it is FOREIGN so that it is
    reported. Changes nothing.
    """
    pooled = _find_pooled(repository)
    judged = (_judge(repository, entry) for entry in list_entries(repository))
    stale = [one for one in judged if one]
    known = {(one.path, admin) for one in stale for admin in (one.admin, None)}
    return [*(one for one in pooled if (one.path, one.admin) not in known), *stale, *_find_nameless(repository)]


def settle(repository: Repository, held: HeldRunLock) -> list[str]:
    """Discard or relink what `find_stale_worktrees` finds; return one line per worktree on what was done.

    Call under the admin lock, before any worktree is opened. Pooled worktrees are discarded and created anew later.
    """
    return [_settle(repository, stale) for stale in find_stale_worktrees(repository)]


def _find_pooled(repository: Repository) -> list[StaleWorktree]:
    """Each directory in the pool. The entry that it links to may name another path.

    `git worktree move` renames the directory first and then updates the entry. `git worktree add` creates the directory
    before its entry names it, so an empty one called like a slot is coordinator's.
    """
    pool = repository.worktrees_dir / POOL_NAME
    found: list[StaleWorktree] = []
    for path in sorted(pool.iterdir()) if pool.is_dir() else []:
        admin = read_git_link(path)
        entry = read_entry(admin) if admin and admin.parent == repository.common_dir / "worktrees" else None
        if entry and entry.is_ours:
            found.append(StaleWorktree(StaleState.POOLED, path, admin))
        elif path.name.isdecimal() and _is_barely_begun(path) and not path.is_mount():
            found.append(StaleWorktree(StaleState.HALF_MADE, path))
        else:
            found.append(StaleWorktree(StaleState.FOREIGN, path))
    return found


def _judge(repository: Repository, entry: Entry) -> StaleWorktree | None:
    """The state of one of coordinator's entries, or None if it needs nothing done."""
    if entry.is_partial:
        return StaleWorktree(StaleState.HALF_MADE, entry.path, entry.admin, entry)
    if entry.path.parent == repository.worktrees_dir / POOL_NAME:
        return StaleWorktree(StaleState.POOLED, _find_moved(repository, entry), entry.admin, entry)
    if entry.is_linked:
        return None
    is_unlinked = entry.path.is_dir() and not (entry.path / ".git").exists()
    return StaleWorktree(StaleState.UNLINKED if is_unlinked else StaleState.GONE, entry.path, entry.admin, entry)


def _settle(repository: Repository, stale: StaleWorktree) -> str:
    path, admin, entry = stale.path, stale.admin, stale.entry
    match stale.state:
        case StaleState.FOREIGN:
            return f"{path}: {stale.state.value}"
        case StaleState.HALF_MADE:
            is_ours = entry is not None and (entry.is_linked or _is_barely_begun(path))
            discard(repository, path if is_ours or admin is None else admin / "none", admin)
        case StaleState.POOLED:
            # The directory goes first. If no entry names this path, the entry that it links to is handled separately.
            discard(repository, path, admin if entry else None)
        case StaleState.UNLINKED:
            (path / ".git").write_text(f"gitdir: {admin}\n", "utf-8")
        case StaleState.GONE:
            return forget(repository, entry) if entry else ""
        case _:
            assert_never(stale.state)
    return f"{path}: {stale.state.value}"


def forget(repository: Repository, entry: Entry) -> str:
    """Drop the entry of a worktree that is gone, and keep what only the entry still references; return a line on it."""
    record = read_record(entry.admin)
    kept = keep_dangling(repository, entry, record.task_id if record else entry.branch or entry.admin.name)
    discard(repository, entry.admin / "none", entry.admin)
    said = f"; what git still had of it is kept at {kept}" if kept else ""
    return f"{entry.path}: {StaleState.GONE.value}{said}"


def _find_moved(repository: Repository, entry: Entry) -> Path:
    # A move renames the directory and then updates the entry; in between, only the directory's `.git` shows the link.
    moved = repository.worktrees_dir / (entry.branch or "")
    return moved if entry.branch and read_git_link(moved) == entry.admin else entry.path


def _find_nameless(repository: Repository) -> list[StaleWorktree]:
    # Git locks an entry before it writes the worktree's path; the lock's reason shows that it was for coordinator.
    root = repository.common_dir / "worktrees"
    return [
        StaleWorktree(StaleState.HALF_MADE, admin, admin)
        for admin in (sorted(root.iterdir()) if root.is_dir() else [])
        if read_entry(admin) is None and (_is_locked_by_us(admin) or _is_dead_start(repository, admin))
    ]


def _is_locked_by_us(admin: Path) -> bool:
    locked = admin / "locked"
    return locked.is_file() and locked.read_bytes().strip() == MAKING.encode()


def _is_dead_start(repository: Repository, admin: Path) -> bool:
    """Whether git was killed before it wrote any content here: nothing can be lost, and no process is writing it."""
    stamp = read_stamp(admin)
    if not _is_blank(admin) or not (is_old(admin) or is_left(repository, admin)):
        return False
    # Git may have ended, its work done, between the first look and the look for its process.
    return not find_git_at_work(repository, admin / "locked") and read_stamp(admin) == stamp and _is_blank(admin)


def _is_blank(admin: Path) -> bool:
    return all(path.name in ("locked", "gitdir") and _has_nothing(path) for path in admin.iterdir())


def _is_barely_begun(path: Path) -> bool:
    """Whether git created the directory and at most an empty `.git` in it: it opens a file before writing to it."""
    if path.is_symlink() or not path.is_dir():
        return False
    found = list(path.iterdir())
    return not found or (len(found) == 1 and found[0].name == ".git" and _has_nothing(found[0]))


def _has_nothing(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def drop_unfinished_files(repository: Repository) -> list[str]:
    """Remove coordinator's files that a killed run was still writing; return one line for each."""
    found = find_unfinished_files(repository)
    for path in found:
        delete(path)
    return [f"{path}: {UNFINISHED_DID}" for path in found]
