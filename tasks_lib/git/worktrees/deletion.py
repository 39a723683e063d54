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
"""Up to this many paths are deleted in this process, one after the other: one or two worktrees with their entries."""
DELETERS = 4


def discard(repository: Repository, path: Path, admin: Path | None) -> list[Path]:
    """Move a worktree to the trash with two renames, under the caller's admin lock; return the paths to delete.

    The directory goes first: the next start drops an entry without a directory, but a directory without an entry
    would look like the user's. The repositories of submodules go with the entry, so what only they contain is kept
    first, except in the pool: what `verify` and reviewers did there is not work to keep.
    """
    gone: list[Path] = []
    if admin and path.parent != repository.worktrees_dir / POOL_NAME:
        keep_submodules(repository, path, admin)
    if os.path.lexists(path):
        gone.append(_rename_into(repository.worktrees_dir / TRASH_NAME, path))
    if admin and admin.exists():
        # Renamed and not removed by git, which deletes file by file and would also prune the user's own worktrees.
        gone.append(_rename_into(repository.state_dir / TRASH_NAME, admin))
    return gone


def _rename_into(trash: Path, path: Path) -> Path:
    trash.mkdir(parents=True, exist_ok=True)
    return path.rename(trash / f"{path.name}-{uuid.uuid4().hex}")


def list_trash(repository: Repository) -> list[Path]:
    """The paths that this run or a killed one discarded and that are not yet deleted."""
    trashes = (repository.worktrees_dir / TRASH_NAME, repository.state_dir / TRASH_NAME)
    return [path for trash in trashes if trash.is_dir() for path in trash.iterdir()]


def delete(path: Path) -> bool:
    """Delete a file or a whole directory, even one its owner has no write permission on; False if something remains."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return True
    _delete_tree(path)
    if path.exists():
        make_writable(path)
        _delete_tree(path)
    return not path.exists()


def delete_each(paths: Sequence[Path]) -> list[bool]:
    """Delete several paths; False for each of which something remains.

    Many paths are deleted by a few `rm` processes in parallel: what a whole run leaves is no longer cached, so deletion
    waits for the disk, and threads of this process would take turns at each file.
    """
    if len(paths) > FEW:
        parts = [paths[start::DELETERS] for start in range(DELETERS)]
        with ThreadPoolExecutor(DELETERS) as pool:
            list(pool.map(_remove_all, parts))
    return [delete(path) for path in paths]


def _delete_tree(path: Path) -> None:
    try:
        shutil.rmtree(path, ignore_errors=True)
    except RecursionError:  # The tree is deeper than Python can recurse.
        _remove_all([path])


def _remove_all(paths: Sequence[Path]) -> None:
    """Delete with `rm`, which has no limit on depth or on the length of a path."""
    with suppress(OSError, SystemFailure):
        run_captured([require_program("rm"), "-rf", "--", *map(str, paths)], environment=os.environ)


def make_writable(path: Path) -> None:
    """Give the owner full permissions on `path` and all directories below it: module caches are created read-only.

    A directory whose path is longer than the system allows is skipped, with everything below it.
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
    """Rename `path`, which is not coordinator's, to a free `.kept-…` name, and return the new path."""
    name = "-".join(path.relative_to(repository.worktrees_dir).parts)
    number = 1
    while os.path.lexists(kept := repository.worktrees_dir / f"{KEPT_PREFIX}{name}-{number}"):
        number += 1
    return path.rename(kept)


def remove_empty_directories(repository: Repository, branches: Iterable[str]) -> None:
    """Remove coordinator's directories that are empty: the pool, the trash, the parents of `branches`, `.worktrees`.

    Any other empty directory is the user's: a mount point, or the place of a worktree that git is about to create.
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
