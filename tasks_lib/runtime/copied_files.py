"""Copies untracked files that the configuration lists from the user's checkout into a worktree, never outside it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.runtime.run_context import Run


async def copy_listed(run: Run, worktree: Worktree) -> None:
    """Copy the files and folders that `copy` in the configuration lists."""
    for name in run.settings.copy_paths:
        await run.git.call(copy_in, run.git.repository.top / name, worktree.path, name)


def copy_in(source: Path, worktree: Path, name: str) -> None:
    """Copy one listed file or folder to `name` in a worktree; does nothing if `source` does not exist.

    Symbolic links in its place, which an agent may have left, are removed first: they could point outside the worktree.
    """
    target = worktree / name
    for place in (*reversed(target.relative_to(worktree).parents), target.relative_to(worktree)):
        if (worktree / place).is_symlink():
            (worktree / place).unlink()
    if source.is_dir():
        drop_links(source, target)
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    elif source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def drop_links(source: Path, target: Path) -> None:
    """Remove each symbolic link below `target` whose path also exists in `source`."""
    for path in source.rglob("*"):
        place = target / path.relative_to(source)
        if place.is_symlink():
            place.unlink()


def is_copied(path: str, copied: Sequence[str]) -> bool:
    """Return whether `path` is, or is below, one of the paths that were copied from the user's checkout."""
    return any(path == name or path.startswith(f"{name.rstrip('/')}/") for name in copied)
