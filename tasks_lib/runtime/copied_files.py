"""Copies the listed files of the person's checkout, which are not in git, into a worktree, and nowhere else."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.runtime.run_context import Run


async def copy_listed(run: Run, worktree: Worktree) -> None:
    """Copy what `copy` in the configuration lists."""
    for name in run.settings.copy_paths:
        await run.git.call(copy_in, run.git.repository.top / name, worktree.path, name)


def copy_in(source: Path, worktree: Path, name: str) -> None:
    """Copy one listed file or folder to `name` in a worktree; what is not there is passed over.

    A symbolic link in its place, which an agent may have left, is taken away: it could lead out of the worktree.
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
    """Take away each symbolic link below `target` that stands where `source` has something."""
    for path in source.rglob("*"):
        place = target / path.relative_to(source)
        if place.is_symlink():
            place.unlink()


def is_copied(path: str, copied: Sequence[str]) -> bool:
    """Whether `path` is, or lies below, one of the paths that are a person's and were copied in."""
    return any(path == name or path.startswith(f"{name.rstrip('/')}/") for name in copied)
