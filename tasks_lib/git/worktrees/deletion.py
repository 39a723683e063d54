"""Removes worktrees and directories so that a kill at any moment leaves nothing half removed."""

import os
import shutil
import stat
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tasks_lib.errors import SystemFailure
from tasks_lib.git.kept.submodules import keep_submodules
from tasks_lib.git.repository import Repository
from tasks_lib.process.captured_output import run_captured
from tasks_lib.process.files import remove_empty_parents
from tasks_lib.process.program_lookup import require_program

POOL_NAME = ".pool"
TRASH_NAME = ".trash"
KEPT_PREFIX = ".kept-"
FEW = 4
"""Directories that are deleted in this process, one after the other: a worktree or two, each with its entry."""
DELETERS = 4


def discard(repository: Repository, path: Path, admin: Path | None) -> list[Path]:
    """Take a worktree out of sight by two renames, under the caller's admin lock; return what is left to delete.

    The directory goes first: an entry without a directory is dropped at the next start, a directory without
    an entry would look like somebody's. The stores of submodules go with the entry, so what only they hold is kept
    first; what `verify` and reviewers did in the pool is nobody's work.
    """
    gone: list[Path] = []
    if admin and path.parent != repository.worktrees_dir / POOL_NAME:
        keep_submodules(repository, path, admin)
    if os.path.lexists(path):
        gone.append(_rename_into(repository.worktrees_dir / TRASH_NAME, path))
    if admin and admin.exists():
        # By a rename and not by git, which deletes file by file, and would prune a user's own worktrees as well.
        gone.append(_rename_into(repository.state_dir / TRASH_NAME, admin))
    return gone


def _rename_into(trash: Path, path: Path) -> Path:
    trash.mkdir(parents=True, exist_ok=True)
    return path.rename(trash / f"{path.name}-{uuid.uuid4().hex}")


def list_trash(repository: Repository) -> list[Path]:
    """What was discarded and not yet deleted, by this run or a killed one."""
    trashes = (repository.worktrees_dir / TRASH_NAME, repository.state_dir / TRASH_NAME)
    return [path for trash in trashes if trash.is_dir() for path in trash.iterdir()]


def delete(path: Path) -> bool:
    """Delete a file or a whole directory, also one that its owner may not write; False when something stays."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return True
    _delete_tree(path)
    if path.exists():
        make_writable(path)
        _delete_tree(path)
    return not path.exists()


def delete_each(paths: Sequence[Path]) -> list[bool]:
    """Delete several; False for each of which something stays.

    Many are deleted by a few processes at once: what a whole run leaves is long out of memory, so that the disk is
    waited for, and threads of ours would take turns at each file.
    """
    if len(paths) > FEW:
        parts = [paths[start::DELETERS] for start in range(DELETERS)]
        with ThreadPoolExecutor(DELETERS) as pool:
            list(pool.map(_remove_all, parts))
    return [delete(path) for path in paths]


def _delete_tree(path: Path) -> None:
    try:
        shutil.rmtree(path, ignore_errors=True)
    except RecursionError:  # Deeper than Python goes.
        _remove_all([path])


def _remove_all(paths: Sequence[Path]) -> None:
    """As `rm` does: it has no limit of depth, nor one for the length of a path."""
    with suppress(OSError, SystemFailure):
        run_captured([require_program("rm"), "-rf", "--", *map(str, paths)], environment=os.environ)


def make_writable(path: Path) -> None:
    """Give the owner every right on `path` and the directories below: module caches are made read-only.

    A directory whose path is longer than the system allows is passed over, with all below it.
    """
    waiting = [str(path)]
    while waiting:
        with suppress(OSError):
            place = waiting.pop()
            _allow(Path(place))
            with os.scandir(place) as found:
                waiting += [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]


def _allow(directory: Path) -> None:
    if not directory.is_symlink() and directory.stat().st_uid == os.getuid():
        directory.chmod(stat.S_IMODE(directory.stat().st_mode) | stat.S_IRWXU)


def keep_aside(repository: Repository, path: Path) -> Path:
    """Rename what is at `path` and not ours to a `.kept-…` name that is free, and return it."""
    name = "-".join(path.relative_to(repository.worktrees_dir).parts)
    number = 1
    while os.path.lexists(kept := repository.worktrees_dir / f"{KEPT_PREFIX}{name}-{number}"):
        number += 1
    return path.rename(kept)


def remove_empty_directories(repository: Repository, branches: Iterable[str]) -> None:
    """Remove the empty directories that are coordinator's: pool, trash, those above its `branches`, `.worktrees`.

    An empty directory of another name is a person's: the place of a disk, or of a worktree that git is about to make.
    """
    _remove_if_empty(repository.state_dir / TRASH_NAME)
    for name in (POOL_NAME, TRASH_NAME):
        _remove_if_empty(repository.worktrees_dir / name)
    for branch in branches:
        remove_empty_parents(repository.worktrees_dir / branch, repository.worktrees_dir)
    _remove_if_empty(repository.worktrees_dir)
    if repository.is_bare:
        _remove_if_empty(repository.worktrees_dir.parent)


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return
