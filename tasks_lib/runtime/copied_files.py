"""Copies untracked files that the configuration lists from the user's checkout into a worktree, never outside it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tasks_lib.git.worktrees.deletion import delete
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.runtime.run_context import Run


async def copy_listed(run: Run, worktree: Worktree) -> None:
    """Copy the files and folders that `copy` in the configuration lists."""
    for name in run.settings.copy_paths:
        await run.git.call(copy_in, run.git.repository.top / name, worktree.path, name)


def copy_in(source: Path, worktree: Path, name: str) -> None:
    """Copy one listed file or folder to `name` in a worktree; does nothing if `source` is neither.

    Pipes, sockets and devices are left out: they stand for a program or the machine, and have no content to copy.
    What an agent has left in its place and is of another kind is removed first: a symbolic link could point outside the
    worktree.
    """
    target = worktree / name
    if not (source.is_dir() or source.is_file()):
        return
    for parent in reversed(target.relative_to(worktree).parents):
        _clear(worktree / parent, is_folder=True)
    _clear(target, is_folder=source.is_dir())
    if source.is_dir():
        for path in source.rglob("*"):
            _clear(target / path.relative_to(source), is_folder=path.is_dir() and not path.is_symlink())
        shutil.copytree(source, target, symlinks=True, ignore=_find_special, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _clear(place: Path, *, is_folder: bool) -> None:
    """Remove what is at `place`, unless it is a folder if one `is_folder` is to be there, else a file."""
    if place.is_symlink() or (is_folder and place.exists() and not place.is_dir()):
        place.unlink()
    elif place.is_dir() and not is_folder:
        delete(place)


def _find_special(folder: str, names: Sequence[str]) -> set[str]:
    """Return those of the `names` in `folder` that are neither files nor folders nor symbolic links."""
    return {name for name in names if _is_special(Path(folder) / name)}


def _is_special(path: Path) -> bool:
    kinds = (path.is_fifo, path.is_socket, path.is_char_device, path.is_block_device)
    return not path.is_symlink() and any(is_kind() for is_kind in kinds)


def is_copied(path: str, copied: Sequence[str]) -> bool:
    """Return whether `path` is, or is below, one of the paths that were copied from the user's checkout."""
    return any(path == name or path.startswith(f"{name.rstrip('/')}/") for name in copied)
