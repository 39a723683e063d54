"""Finds the living process that holds a lock file of git, since a lock says nothing of who made it.

Git closes a lock file while it still holds it (a commit with its editor open, a hook), so an open file proves that it
is held and the lack of one proves nothing. Held is therefore also what any living git could hold: one that works in
the repository, but for commands that only read. A process of which nothing can be read counts as such where the lock
is its user's.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Place:
    """A directory with all below it, without what is below `but`."""

    path: Path
    but: Path | None = None

    def holds(self, path: Path) -> bool:
        return path.is_relative_to(self.path) and not (self.but and path.is_relative_to(self.but))


_READERS = frozenset(
    {"blame", "cat-file", "check-attr", "check-ignore", "credential", "daemon", "describe", "diff-tree", "diff", "grep"}
    | {
        "credential-cache--daemon",
        "for-each-ref",
        "fsmonitor--daemon",
        "help",
        "log",
        "ls-files",
        "ls-remote",
        "ls-tree",
    }
    | {"merge-base", "name-rev", "rev-list", "rev-parse", "shortlog", "show", "show-ref", "upload-pack", "whatchanged"}
)
"""Commands that hold no lock while they wait: for their pager, for an editor that asks them, for a client."""
_VALUED = ("-c", "-C", "--git-dir", "--work-tree", "--namespace", "--super-prefix", "--config-env", "--exec-path")


def find_holder(lock: Path, places: Sequence[Place], spared: Collection[int] = ()) -> str:
    """Who holds `lock`, such as "process 12 (git)", or "" if nobody can.

    `places` are where a git that could hold it works. This process is never meant, nor are those of `spared`, the
    commands of git that it runs itself, with what they start. Reads the whole process table.
    """
    for process in _list_others(spared):
        with suppress(psutil.Error, OSError):
            is_writer = is_git(process) and _find_command(process.cmdline()) not in _READERS
            if _has_open(process, lock) or (is_writer and _is_at(process, places, lock)):
                return _name(process)
    return ""


def find_git(places: Sequence[Place], spared: Collection[int] = ()) -> str:
    """A git that is at work in `places`, whatever it does, such as "process 12 (git)", or "" if none is."""
    for process in _list_others(spared):
        with suppress(psutil.Error, OSError):
            if is_git(process) and _is_at(process, places, places[0].path):
                return _name(process)
    return ""


def _list_others(spared: Collection[int]) -> Iterator[psutil.Process]:
    own = {os.getpid(), *spared}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            is_other = process.pid not in own and process.ppid() not in spared
            if is_other and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _name(process: psutil.Process) -> str:
    return f"process {process.pid} ({process.name()})"


def _find_command(words: Sequence[str]) -> str:
    """The command of git that a command line names, such as "log"; "" if it cannot be told."""
    rest = iter(words[1:])
    for word in rest:
        if word in _VALUED:
            next(rest, "")
        elif not word.startswith("-"):
            return word
    return ""


def is_git(process: psutil.Process) -> bool:
    """Whether the process is git, or a helper that git starts."""
    name = process.name()
    return name in ("git", "git.exe") or name.startswith("git-")


def _has_open(process: psutil.Process, lock: Path) -> bool:
    try:
        return any(file.path == str(lock) for file in process.open_files())
    except (psutil.Error, OSError):
        return False


def _is_at(process: psutil.Process, places: Sequence[Place], lock: Path) -> bool:
    try:
        seen = [process.cwd(), *_read_places(process)]
    except psutil.AccessDenied:
        return process.uids().effective in (0, lock.lstat().st_uid)
    return any(place.holds(Path(path)) for path in seen for place in places)


def _read_places(process: psutil.Process) -> list[str]:
    """The directories that a command of git was told of by its variables and options, such as `-C` and `--git-dir`."""
    variables = process.environ()
    named = [variables[name] for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR") if name in variables]
    words = process.cmdline()
    named += [word.partition("=")[2] for word in words if word.startswith(("--git-dir=", "--work-tree="))]
    named += [after for word, after in pairwise(words) if word in ("-C", "--git-dir", "--work-tree")]
    # Before it has changed to a directory that is named from where it was started.
    return [os.path.normpath(Path(process.cwd()) / name) for name in named]
