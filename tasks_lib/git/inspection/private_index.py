"""Copies of worktrees' indexes that git may refresh while an agent uses the real ones."""

import os
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.git.runner import Git
from tasks_lib.git.worktree_admin import Worktree
from tasks_lib.process.files import Stamp, read_regular, read_stamp

_MOST_BYTES = 1 << 30
_SETTINGS = (
    "core.preloadIndex=false",  # Threads are sooner done, but use a fifth more of the processor.
    "core.splitIndex=false",  # The shared half would be written into the worktree's own git directory.
    "core.untrackedCache=true",
    "status.showUntrackedFiles=all",  # As git is asked: only then does the cache serve.
)


@dataclass(frozen=True, slots=True)
class _Copy:
    git: Git
    stamp: Stamp | None


class PrivateIndexes:
    """Indexes in the directory `place`, each a copy of that of a worktree; call it from one thread at a time.

    An agent's index must be neither locked nor written while the agent may use it. Git can then not remember which
    files it has read, and reads those again that are as new as the index itself: in a new worktree, all of them.
    """

    def __init__(self, place: Path) -> None:
        self._place: Path = place
        self._copies: dict[Path, _Copy] = {}

    def open(self, worktree: Worktree) -> Git:
        """Return git for `worktree` with a copy of its index as it is now. Raises OSError if it cannot be read."""
        source, target = worktree.git_dir / "index", self._place / worktree.git_dir.name
        stamp = read_stamp(source)
        known = self._copies.get(worktree.git_dir)
        if known and known.stamp == stamp:
            return known.git
        self._place.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if stamp:
            target.write_bytes(read_regular(source, _MOST_BYTES))
            # Git tells from this time which files may have changed since without looking different.
            os.utime(target, ns=(stamp[0], stamp[0]))
        git = Git(worktree.path, worktree.git_dir, variables={"GIT_INDEX_FILE": str(target)}, settings=_SETTINGS)
        self._copies[worktree.git_dir] = _Copy(git, stamp)
        return git

    def forget(self, worktree: Worktree) -> None:
        """Delete the copy for `worktree`."""
        if self._copies.pop(worktree.git_dir, None):
            (self._place / worktree.git_dir.name).unlink(missing_ok=True)
