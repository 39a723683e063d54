"""Decides what a killed run left half done in the administration of worktrees, and puts it right."""

import os
from pathlib import Path

from tasks_lib.git.kept.unreferenced_commits import keep_dangling
from tasks_lib.git.repository import Repository
from tasks_lib.git.session_record import read_git_link, read_record
from tasks_lib.git.worktree_admin import MAKING, Entry, list_entries, read_entry
from tasks_lib.git.worktrees.deletion import POOL_NAME, delete, discard
from tasks_lib.git.worktrees.stale_files import find_unfinished_files, is_old
from tasks_lib.git.worktrees.stale_git_locks import find_git_at_work


def settle(repository: Repository) -> list[str]:
    """Take every half-made, pooled and dangling worktree of coordinator's out of sight; say what was done, a line each.

    Called under the admin lock, by the holder of the run's lock, before anything is opened. Pooled worktrees hold
    nobody's work, and may be in the middle of a checkout, so they are dropped and made anew. What does not carry
    coordinator's record (see `Entry.is_ours`) stays as it is, in the pool's directory too.
    """
    lines = _settle_pool(repository)
    for entry in list(list_entries(repository)):
        lines += _settle_entry(repository, entry)
    return [*lines, *_settle_nameless(repository)]


def _settle_pool(repository: Repository) -> list[str]:
    """Drop what is in the pool's directory and belongs to an entry of coordinator's, which may name another place.

    A move renames the directory and then writes where it went.
    """
    pool = repository.worktrees_dir / POOL_NAME
    lines: list[str] = []
    for path in sorted(pool.iterdir()) if pool.is_dir() else []:
        admin = read_git_link(path)
        entry = read_entry(admin) if admin and admin.parent == repository.common_dir / "worktrees" else None
        if entry and entry.is_ours:
            discard(repository, path, None)
            lines.append(f"{path}: removed; it was pooled by an earlier run")
        else:
            lines.append(f"{path}: is not coordinator's, and stays")
    return lines


def _settle_entry(repository: Repository, entry: Entry) -> list[str]:
    if entry.is_partial:
        is_ours = entry.is_linked or _is_barely_begun(entry.path)
        discard(repository, entry.path if is_ours else entry.admin / "none", entry.admin)
        return [f"{entry.path}: removed; an earlier run was ended while making it"]
    if entry.path.parent == repository.worktrees_dir / POOL_NAME:
        place = _find_moved(repository, entry)
        lines = [f"{place}: removed; it was pooled by an earlier run"] if os.path.lexists(place) else []
        discard(repository, place, entry.admin)
        return lines
    if entry.is_linked:
        return []
    if entry.path.is_dir() and not (entry.path / ".git").exists():
        (entry.path / ".git").write_text(f"gitdir: {entry.admin}\n", "utf-8")
        return [f"{entry.path}: linked to the repository again; its .git was gone"]
    return [forget(repository, entry)]


def forget(repository: Repository, entry: Entry) -> str:
    """Drop the administration of a worktree that is gone, keeping what only it still holds; say so, in a line."""
    record = read_record(entry.admin)
    kept = keep_dangling(repository, entry, record.task_id if record else entry.branch or entry.admin.name)
    discard(repository, entry.admin / "none", entry.admin)
    said = f"; what git still held of it is kept at {kept}" if kept else ""
    return f"{entry.path}: forgotten; its worktree is not there any more{said}"


def _find_moved(repository: Repository, entry: Entry) -> Path:
    # A move renames the directory and then writes where it went; between the two only the directory itself knows.
    moved = repository.worktrees_dir / (entry.branch or "")
    return moved if entry.branch and read_git_link(moved) == entry.admin else entry.path


def _settle_nameless(repository: Repository) -> list[str]:
    # Git locks an entry first and then writes where its worktree is; the reason says that it was for us.
    root = repository.common_dir / "worktrees"
    lines: list[str] = []
    for admin in sorted(root.iterdir()) if root.is_dir() else []:
        if read_entry(admin) is None and (_is_locked_by_us(admin) or _is_dead_start(repository, admin)):
            discard(repository, admin / "none", admin)
            lines.append(f"{admin}: removed; an earlier run was ended while making it")
    return lines


def _is_locked_by_us(admin: Path) -> bool:
    locked = admin / "locked"
    return locked.is_file() and locked.read_bytes().strip() == MAKING.encode()


def _is_dead_start(repository: Repository, admin: Path) -> bool:
    """Whether git was ended before it wrote anything here: nothing that anybody could miss, and nobody writes it."""
    is_empty = all(path.name in ("locked", "gitdir") and _has_nothing(path) for path in admin.iterdir())
    return is_empty and is_old(admin) and not find_git_at_work(repository, admin / "locked")


def _is_barely_begun(path: Path) -> bool:
    """Whether git made the directory and at most an empty `.git` in it: it opens a file before it writes to it."""
    if path.is_symlink() or not path.is_dir():
        return False
    found = list(path.iterdir())
    return not found or (len(found) == 1 and found[0].name == ".git" and _has_nothing(found[0]))


def _has_nothing(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def drop_unfinished_files(repository: Repository) -> list[str]:
    """Remove the files of coordinator's that a killed run was writing; say which."""
    found = find_unfinished_files(repository)
    for path in found:
        delete(path)
    return [f"{path}: removed; an earlier run was ended while writing it" for path in found]
