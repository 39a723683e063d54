"""Detects that a repository was moved or copied since its last run, and relinks its worktrees."""

import json
import os
from pathlib import Path
from typing import Any, cast

import psutil

from tasks_lib.errors import InputError
from tasks_lib.git.publish.interrupted_fast_forward import update_move_paths
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock
from tasks_lib.git.worktrees.placement import require_root
from tasks_lib.git.worktrees.relinking import FormerLocation, Relocation, find_relocation, relocate
from tasks_lib.process.files import write_atomically
from tasks_lib.runtime.status_board import VIEW_NAME, read_view


def find_move(repository: Repository) -> Relocation | None:
    """Return how the repository was moved or copied since its last run; None if it was not. Changes nothing."""
    view = read_view(repository.state_dir / VIEW_NAME)
    return find_relocation(repository, FormerLocation(Path(view.place), view.inode) if view and view.place else None)


def require_not_moved(repository: Repository) -> None:
    """Raise InputError if the repository was moved or copied since its last run: a run has to relink it first."""
    if move := find_move(repository):
        how = "run `coordinator run` or `coordinator cleanup` here first, which relink its worktrees"
        raise InputError([f"{repository.top} was moved or copied from {move.former} since the last run; {how}"])


def find_former_top(repository: Repository, relocation: Relocation | None) -> Path | None:
    """Return the repository's top directory before it was moved; None if it was not moved, or is a copy."""
    if relocation is None or relocation.is_copy:
        return None
    return relocation.former if repository.is_bare else relocation.former.parent


def adopt_new_location(repository: Repository, held: HeldRunLock) -> tuple[Relocation | None, list[str]]:
    """Point worktrees, records and an interrupted checkout update to the new location; return a line per action.

    Call it before any process is ended, anything is opened, or `run.json` is written.
    """
    relocation = find_move(repository)
    if relocation is None:
        return None, []
    lines = relocate(repository, relocation, held)
    update_move_paths(repository.common_dir, relocation)
    return relocation, lines


def is_mounted(repository: Repository) -> bool:
    """Return whether `.worktrees` is on a separate disk, or was during the last run and its directory still exists."""
    place, view = repository.worktrees_dir, read_view(repository.state_dir / VIEW_NAME)
    return _is_mount(place) or (view is not None and view.is_mounted and place.is_dir())


def _is_mount(place: Path) -> bool:
    # A bind mount from the same disk is found only in the list of mounts.
    return os.path.ismount(place) or str(place) in {one.mountpoint for one in psutil.disk_partitions(all=True)}


def require_disk(repository: Repository) -> None:
    """Raise InputError if `.worktrees` cannot be used, or its disk is not mounted: its mount point must stay unused.

    Call it before anything is opened, so that nothing is cleaned up there either.
    """
    place = repository.worktrees_dir
    if is_mounted(repository) and not _is_mount(place):
        how = "Mount it and run again; if it is gone for good, remove that directory"
        raise InputError([f"{place} was on a separate disk, which is not mounted now. {how}."])
    require_root(repository)


def remember_place(repository: Repository) -> None:
    """Update the repository's location in `run.json`, for when no run starts that would rewrite the file."""
    path = repository.state_dir / VIEW_NAME
    try:
        found: object = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return
    if isinstance(found, dict):
        words = cast("dict[str, Any]", found)
        words |= {"place": str(repository.common_dir), "inode": repository.common_dir.stat().st_ino}
        write_atomically(path, json.dumps(words).encode())
