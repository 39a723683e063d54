"""Finds coordinator's own small files that can be deleted after a kill: half-written ones, empty folders, old logs."""

import os
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from tasks_lib.git.commits.isolated_git import DISK_PREFIX
from tasks_lib.git.kept.snapshots import INDEX_PREFIX
from tasks_lib.git.repository import Repository
from tasks_lib.git.worktree_admin import list_entries
from tasks_lib.process.files import find_unfinished

OLD_SECONDS = 10.0
"""A file last written longer ago than this is no longer being written, unless a process is found that could be."""


def is_old(path: Path, seconds: float = OLD_SECONDS) -> bool:
    """Whether `path` was last written more than `seconds` ago; False if it no longer exists."""
    try:
        return time.time() - path.lstat().st_mtime > seconds
    except FileNotFoundError:
        return False


def find_unfinished_files(repository: Repository) -> list[Path]:
    """Coordinator's files that a killed run was writing. Call only where no other process can be writing such files."""
    admins = [entry.admin for entry in list_entries(repository)]
    places = (repository.state_dir, repository.common_dir / "info", *admins)
    files = [path for place in places for path in find_unfinished(place)]
    left = (f"{prefix}*" for prefix in (INDEX_PREFIX, DISK_PREFIX))
    return [*files, *(path for pattern in left for admin in admins for path in sorted(admin.glob(pattern)))]


def find_old_logs(repository: Repository, open_nodes: Collection[str], seconds: float) -> list[Path]:
    """Logs and briefs of nodes not in `open_nodes` (ids with `/` written as `-`), last written over `seconds` ago."""
    folders = repository.state_dir / "logs"
    listed = sorted(folders.iterdir()) if folders.is_dir() else []
    closed = (path for path in listed if path.is_dir() and not path.is_symlink() and path.name not in open_nodes)
    return [
        log
        for folder in closed
        for log in sorted((*folder.glob("*.log"), *folder.glob("*.md")))
        if is_old(log, seconds)
    ]


def remove_empty_folders_of_refs(repository: Repository, branches: Collection[str]) -> None:
    """Remove empty folders of coordinator's deleted refs, which stay if git is killed before it removes them itself."""
    tops = {branch.partition("/")[0] for branch in branches if "/" in branch}
    for root in (repository.common_dir / "refs", repository.common_dir / "logs" / "refs"):
        for place in (root / "coordinator", *(root / "heads" / top for top in sorted(tops))):
            for folder in _list_folders(place):
                # A folder that is not empty stays; git recreates one that disappears just when it needs it.
                with suppress(OSError):
                    folder.rmdir()


def _list_folders(top: Path) -> Iterator[Path]:
    return (Path(folder) for folder, _, _ in os.walk(top, topdown=False))
