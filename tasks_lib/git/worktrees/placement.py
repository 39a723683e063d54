"""Decides where the worktree of a branch goes, and what happens to anything that is already there."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from tasks_lib.errors import InputError
from tasks_lib.git.branches import require_no_alias
from tasks_lib.git.repository import Repository
from tasks_lib.git.session_record import read_git_link, read_record
from tasks_lib.git.worktree_admin import Entry, list_all, list_entries, list_others, read_entry
from tasks_lib.git.worktrees.deletion import POOL_NAME, keep_aside
from tasks_lib.git.worktrees.repair_after_kill import forget
from tasks_lib.git.worktrees.stale_git_locks import WAIT_SECONDS, drop_own, find_branch_lock

_TAKEN = re.compile(r" at '(?P<path>.+)'$", re.DOTALL)
Tell = Callable[[str], object]


def require_root(repository: Repository) -> None:
    """Raise InputError unless worktrees can be created below `.worktrees` and the open ones still exist."""
    root = repository.worktrees_dir
    if root.is_symlink():
        told = "worktrees must stay in the repository. Remove the link; for another disk, mount it there"
        raise InputError([f"{root} is a symbolic link, and {told}"])
    if root.exists() and not root.is_dir():
        raise InputError([_describe_file(root)])
    if missing := find_missing(repository):
        raise InputError([missing])


def find_missing(repository: Repository) -> str:
    """The error to report if `.worktrees` had worktrees of open nodes and is now empty or missing; "" if not.

    A disk may not be mounted, or the directory may have been moved. Starting over would create worktrees in the place
    of those that come back, and forget their uncommitted changes.
    """
    root, pool = repository.worktrees_dir, repository.worktrees_dir / POOL_NAME
    if root.is_dir() and any(root.iterdir()):
        return ""
    gone = [
        entry.path
        for entry in list_entries(repository)
        if not entry.is_partial and entry.path.parent != pool and read_record(entry.admin)
    ]
    if not gone:
        return ""
    named = ", ".join(str(path.relative_to(root)) for path in gone[:3]) + (" and more" if len(gone) > 3 else "")
    return (
        f"{root} {'is empty' if root.is_dir() else 'does not exist'}, and worktrees of open nodes were in it ({named})."
        " If it is on another disk, mount that; if it was moved, move it back. If it is gone for good, "
        "`git worktree prune` removes these worktrees and their uncommitted changes. Then run again."
    )


def find_place(repository: Repository, branch: str) -> Path:
    """Where the worktree of `branch` goes. Raises InputError for a path outside `.worktrees` or in another worktree."""
    root = repository.worktrees_dir
    place = root / branch
    parts = branch.split("/")
    if branch.startswith("-") or any(not part or part.startswith(".") for part in parts) or "\0" in branch:
        raise InputError([f"branch {branch!r} cannot have a directory below {root}; give it another name"])
    require_no_alias(repository, branch)
    for directory in (place, *place.parents[: len(parts)]):
        if directory.is_symlink():
            raise InputError([f"{directory} is a symbolic link; worktrees must stay below {root}. Remove the link."])
    for directory in place.parents[: len(parts) - 1]:
        if os.path.lexists(directory / ".git"):
            raise InputError([f"{place} would be inside the worktree {directory}; rename one of the branches"])
    return place


def require_lock_free(repository: Repository, branch: str) -> None:
    """Remove a dead lock on `branch`. Raises InputError if a running git still holds it after `WAIT_SECONDS`."""
    lock = find_branch_lock(repository, branch)
    said = drop_own(repository, lock, time.monotonic() + WAIT_SECONDS)
    if said and lock.exists():
        raise InputError([f"{said}: {branch} cannot be checked out until that ends"])


def clear_path(repository: Repository, place: Path, tell: Tell) -> None:
    """Clear `place`: rename what is not a worktree, and pass `tell` a line on it. Call under the admin lock.

    Raises InputError if there is a worktree of the user's, or one that would be inside the new one.
    """
    root = repository.worktrees_dir
    for entry in list(list_all(repository)):
        if entry.path != place and entry.path.is_relative_to(place) and entry.is_linked:
            raise InputError([f"{place} contains the worktree {entry.path}; rename one of the branches"])
        if entry.path == place and not entry.is_ours:
            raise InputError([describe_foreign_worktree(entry)])
        if entry.path == place:
            tell(forget(repository, entry))
    for path in (*reversed([parent for parent in place.parents if parent.is_relative_to(root)]), place):
        _clear_one(repository, path, tell, is_parent=path != place)
    place.parent.mkdir(parents=True, exist_ok=True)


def _clear_one(repository: Repository, path: Path, tell: Tell, *, is_parent: bool) -> None:
    if not os.path.lexists(path) or (is_parent and path.is_dir()):
        return
    if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
        path.rmdir()
        return
    if path == repository.worktrees_dir:
        raise InputError([_describe_file(path)])
    if _is_worktree_of_another(path):
        raise InputError([f"{path} is a worktree of another repository; move it with `git worktree move`"])
    tell(
        f"{path} was in the way and is not one of Coordinator's worktrees; it is kept as {keep_aside(repository, path)}"
    )


def _is_worktree_of_another(path: Path) -> bool:
    """Whether a repository has a worktree at `path`, whose link a rename would break."""
    admin = read_git_link(path)
    if admin is None or admin == path / ".git":
        return False
    entry = read_entry(admin)
    return entry is not None and entry.path == path


def describe_foreign_worktree(entry: Entry) -> str:
    """The error for a worktree of the user's in the place of a node's."""
    if not entry.path.exists():
        how = "mount it or move it back, or remove it with `git worktree prune`"
        return (
            f"git lists a worktree at {entry.path} that Coordinator did not create and that does not exist now; {how}"
        )
    how = "move it with `git worktree move`, or remove it with `git worktree remove`"
    return f"{entry.path} is a worktree that Coordinator did not create, where a node's worktree should be; {how}"


def describe_taken(stderr: str) -> str:
    """The error for a branch that another worktree has checked out; `stderr` is git's refusal."""
    said = stderr.strip().removeprefix("fatal: ")
    found = _TAKEN.search(said)
    if found and not os.path.lexists(found["path"]):
        return f"{said}, which does not exist now; mount it or move it back, or remove it with `git worktree prune`"
    return f"{said}; check out another branch there, or remove it"


def list_foreign_worktrees(repository: Repository) -> list[Path]:
    """The worktrees below `.worktrees` that coordinator did not create; it leaves them alone."""
    return [entry.path for entry in list_others(repository)]


def _describe_file(root: Path) -> str:
    return f"{root} is a file; worktrees are created in a directory of that name. Rename the file."
