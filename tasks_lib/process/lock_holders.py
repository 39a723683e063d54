"""Finds the running process that holds a git lock file, because the file does not say who created it.

Git closes a lock file while it still holds it (a commit with its editor open, a hook). So an open file proves that the
lock is held, but a closed one proves nothing. Therefore a lock also counts as held if any git process is running in the
repository, except for commands that only read. A process that cannot be inspected counts as such if it runs as the user
who owns the lock.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class DirectoryTree:
    """A directory and everything below it, except what is below `except_below`."""

    path: Path
    except_below: Path | None = None

    def contains(self, path: Path) -> bool:
        return path.is_relative_to(self.path) and not (self.except_below and path.is_relative_to(self.except_below))


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
"""Commands that hold no lock while they wait for a pager, an editor or a client."""
_VALUED = ("-c", "-C", "--git-dir", "--work-tree", "--namespace", "--super-prefix", "--config-env", "--exec-path")


def find_holder(lock: Path, trees: Sequence[DirectoryTree], spared: Collection[int] = ()) -> str:
    """Return the process that holds `lock`, e.g. "process 12 (git)", or "" if none can.

    `trees` are the directories in which a git process could hold it. This process is ignored, and so are `spared`, the
    git commands that it runs itself, with their children. Reads the whole process table.
    """
    for process in _list_others(spared):
        with suppress(psutil.Error, OSError):
            is_writer = is_git(process) and _find_command(process.cmdline()) not in _READERS
            if _has_open(process, lock) or (is_writer and _is_in(process, trees, lock)):
                return _name(process)
    return ""


def find_git(trees: Sequence[DirectoryTree], spared: Collection[int] = ()) -> str:
    """Return a git process that is running in `trees`, e.g. "process 12 (git)", or "" if there is none."""
    for process in _list_others(spared):
        with suppress(psutil.Error, OSError):
            if is_git(process) and _is_in(process, trees, trees[0].path):
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
    """Return the git command in a command line, e.g. "log"; "" if it cannot be determined."""
    rest = iter(words[1:])
    for word in rest:
        if word in _VALUED:
            next(rest, "")
        elif not word.startswith("-"):
            return word
    return ""


def is_git(process: psutil.Process) -> bool:
    """Return whether the process is git, or a helper that git starts."""
    name = process.name()
    return name in ("git", "git.exe") or name.startswith("git-")


def _has_open(process: psutil.Process, lock: Path) -> bool:
    try:
        return any(file.path == str(lock) for file in process.open_files())
    except (psutil.Error, OSError):
        return False


def _is_in(process: psutil.Process, trees: Sequence[DirectoryTree], lock: Path) -> bool:
    try:
        seen = [process.cwd(), *_read_directories(process)]
    except psutil.AccessDenied:
        return process.uids().effective in (0, lock.lstat().st_uid)
    return any(tree.contains(Path(path)) for path in seen for tree in trees)


def _read_directories(process: psutil.Process) -> list[str]:
    """Return the directories that variables and options such as `-C` and `--git-dir` give to a git command."""
    variables = process.environ()
    named = [variables[name] for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR") if name in variables]
    words = process.cmdline()
    named += [word.partition("=")[2] for word in words if word.startswith(("--git-dir=", "--work-tree="))]
    named += [after for word, after in pairwise(words) if word in ("-C", "--git-dir", "--work-tree")]
    # A relative path counts from where the command was started, before it changes its directory.
    return [os.path.normpath(Path(process.cwd()) / name) for name in named]
