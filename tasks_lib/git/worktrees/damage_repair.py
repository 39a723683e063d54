"""Describes how an agent made its worktree unusable, and repairs the worktree in place."""

import os
import stat
from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.git.repository import Repository
from tasks_lib.git.session_record import read_git_link
from tasks_lib.git.worktree_admin import Worktree, read_entry
from tasks_lib.git.worktrees.deletion import keep_aside
from tasks_lib.process.files import write_atomically


def find_damage(worktree: Worktree) -> str:
    """What the agent did, as the words after "the agent", or "" if the worktree is intact and in its place."""
    path, link = worktree.path, worktree.path / ".git"
    if path.is_symlink():
        return f"replaced its worktree with a link to {path.readlink()}"
    if not path.is_dir():
        return "deleted or moved its worktree"
    if not _is_administered(worktree):
        return "deleted git's administrative files for its worktree"
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return "made its worktree inaccessible"
    if not link.is_symlink() and link.is_dir():
        return "replaced its worktree's .git with a repository of its own"
    if link.is_symlink() or read_git_link(path) != worktree.git_dir:
        return "deleted or changed the .git of its worktree"
    return ""


def relink(repository: Repository, worktree: Worktree) -> bool:
    """Repair a damaged worktree, with the files that it has; False if git's administrative files for it are gone.

    Anything that an agent put in place of the worktree, or of its `.git`, is renamed to `.worktrees/.kept-…`; a
    symbolic link is removed, and its target is not touched. A missing directory is recreated from the branch.
    """
    path, link = worktree.path, worktree.path / ".git"
    if path.is_symlink():
        path.unlink()
    if not os.path.lexists(path):
        _bring_back(repository, worktree)
    if os.path.lexists(path) and not path.is_dir():
        keep_aside(repository, path)
    if not _is_administered(worktree):
        return False
    is_gone = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IRWXU)
    if link.is_dir() and not link.is_symlink():
        keep_aside(repository, link)
    link.unlink(missing_ok=True)
    link.write_text(f"gitdir: {worktree.git_dir}\n", "utf-8", "surrogateescape")
    write_atomically(worktree.git_dir / "gitdir", os.fsencode(f"{link}\n"))
    if is_gone:
        worktree.git.run("reset", "--hard", "--quiet")
    return True


def explain_unreadable(error: GitError) -> str:
    """What the agent did to a worktree for which git reports `error`, as the words after "the agent"."""
    lines = error.stderr.splitlines()
    return f"left its worktree so that git cannot read it ({lines[0] if lines else f'status {error.status}'})"


def _is_administered(worktree: Worktree) -> bool:
    return all((worktree.git_dir / name).is_file() for name in ("HEAD", "commondir", "gitdir"))


def _bring_back(repository: Repository, worktree: Worktree) -> None:
    """Rename the worktree back if it was only moved: to the path that git has, next to it, or below `.worktrees`."""
    entry = read_entry(worktree.git_dir) if worktree.git_dir.is_dir() else None
    folders = [folder for folder in (worktree.path.parent, repository.worktrees_dir) if folder.is_dir()]
    places = [place for folder in folders for place in sorted(folder.iterdir())]
    for place in (*([entry.path] if entry else []), *places):
        if _is_of(place, worktree):
            worktree.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                place.rename(worktree.path)
            except OSError:  # It may be on another disk; the branch contains what was committed.
                continue
            return


def _is_of(place: Path, worktree: Worktree) -> bool:
    return not place.is_symlink() and place.is_dir() and read_git_link(place) == worktree.git_dir
