"""Reads git's administration of linked worktrees from its files, since a command for each would cost too much."""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.git.records import read_git_link, write_atomically
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git

MAKING = "coordinator: being made"
"""Why git holds a worktree locked from the first moment of our making it to the last; half-made ones still say so."""

SLOT_NAME = "coordinator-slot"
_GIT_INITIALIZING = "initializing"
_PLAIN_NAMES = frozenset(
    {"HEAD", "ORIG_HEAD", "FETCH_HEAD", "COMMIT_EDITMSG", "commondir", "gitdir", "index", "logs", "refs"}
)


@dataclass(frozen=True, slots=True)
class Worktree:
    """A linked worktree of ours: `git_dir` is its administration directory, `branch` None when it is detached.

    `slot` is a number from 1 on that no other live worktree of the repository has; it lasts as long as the worktree,
    in the pool and after a restart too. `is_resumed`: it was there already, and is as it was left. `is_new_branch`: its
    branch was made with it, where it was to start.
    """

    path: Path
    git_dir: Path
    slot: int
    branch: str | None = None
    is_resumed: bool = False
    is_new_branch: bool = False

    @property
    def git(self) -> Git:
        """Runs git in this worktree, whatever an agent has made of the `.git` in it."""
        return Git(self.path, self.git_dir)


@dataclass(frozen=True, slots=True)
class Entry:
    """An administration directory `admin` and the directory `path` that it says is its worktree.

    `head` is the content of HEAD; `locked` the reason it is locked for, None when it is not.
    """

    admin: Path
    path: Path
    head: str
    locked: str | None

    @property
    def branch(self) -> str | None:
        """The branch checked out, or the one that a rebase or bisect in progress will return to."""
        if self.head.startswith("ref: refs/heads/"):
            return self.head.removeprefix("ref: refs/heads/")
        for name in ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START"):
            if found := _read_text(self.admin / name):
                return found.removeprefix("refs/heads/")
        return None

    @property
    def is_half_made(self) -> bool:
        return self.locked in (MAKING, _GIT_INITIALIZING)

    @property
    def is_linked(self) -> bool:
        """Whether the directory is there and says that it belongs to this entry."""
        return read_git_link(self.path) == self.admin

    @property
    def slot(self) -> int | None:
        words = _read_text(self.admin / SLOT_NAME) or ""
        return int(words) if words.isdecimal() and int(words) > 0 else None


def list_entries(repository: Repository) -> Iterator[Entry]:
    """Every entry of a worktree below our directory, in the order of the administration's names."""
    root = repository.common_dir / "worktrees"
    if not root.is_dir():
        return
    for admin in sorted(root.iterdir()):
        entry = read_entry(admin)
        if entry and entry.path.is_relative_to(repository.worktrees_dir):
            yield entry


def read_entry(admin: Path) -> Entry | None:
    """The entry in `admin`, or None if it does not say where its worktree is."""
    link = _read_text(admin / "gitdir")
    if not link:
        return None
    # Since git 2.48 it may be relative. Not resolved: the worktree may have been replaced by a symbolic link.
    path = Path(os.path.normpath(admin / link)).parent
    return Entry(admin, path, _read_text(admin / "HEAD") or "", _read_text(admin / "locked"))


def find_entry(repository: Repository, path: Path) -> Entry | None:
    """The entry of the worktree at `path`, if both say that they belong together."""
    admin = read_git_link(path)
    if not admin or admin.parent != repository.common_dir / "worktrees":
        return None
    entry = read_entry(admin)
    return entry if entry and entry.path == path else None


def write_slot(admin: Path, slot: int) -> None:
    """Note `slot` so that it survives a restart."""
    write_atomically(admin / SLOT_NAME, f"{slot}\n".encode())


def drop_dead_locks(repository: Repository, entry: Entry) -> list[str]:
    """Remove the lock files that a killed git left for this worktree and its branch; return them.

    The caller holds the run's lock and has ended the processes of an earlier run, so nobody holds them.
    """
    locks = list(entry.admin.rglob("*.lock"))
    if branch := entry.branch:
        locks.append(repository.common_dir / "refs" / "heads" / f"{branch}.lock")
    found = [lock for lock in locks if lock.exists()]
    for lock in found:
        lock.unlink(missing_ok=True)
    return [str(lock) for lock in found]


def is_plain(worktree: Worktree, hash_bytes: int) -> bool:
    """Whether nothing in the worktree's administration would reach into its next use.

    Not so: a rebase or merge in progress, refs or settings of its own, a lock, submodules, and files that the index
    hides from checkout (assume-unchanged, skip-worktree), which would keep one node's bytes for the next.
    """
    if (worktree.path / ".gitmodules").exists():
        return False
    names = {path.name for path in worktree.git_dir.iterdir()}
    if any(name not in _PLAIN_NAMES and not name.startswith("coordinator") for name in names):
        return False
    if "refs" in names and any((worktree.git_dir / "refs").rglob("*")):
        return False
    return not has_hidden_files(worktree.git_dir / "index", hash_bytes)


def has_hidden_files(index: Path, hash_bytes: int) -> bool:
    """Whether an index marks files as assume-unchanged or skip-worktree; one of an unknown form counts as if.

    An index is a header (signature, version, count) and entries: 40 bytes of stat data, an object id, 2 bytes of
    flags (the highest bit is assume-unchanged, the next says that 2 more follow, whose second bit is
    skip-worktree), the path and its end. Up to version 3 an entry is padded to 8 bytes, in version 4 the path
    is a number of bytes to take from the one before and the rest.
    """
    data = index.read_bytes() if index.exists() else b""
    if not data:
        return False
    signature, version, count = struct.unpack_from(">4sII", data)
    if signature != b"DIRC" or version not in (2, 3, 4):
        return True
    start = 12
    for _ in range(count):
        at = start + 40 + hash_bytes
        flags = data[at] << 8 | data[at + 1]
        if flags & 0x8000:
            return True
        at += 2
        if flags & 0x4000:
            if data[at] & 0x40:
                return True
            at += 2
        if version == 4:
            # The number has 7 bits a byte, the highest says that more follow; it may be a zero byte itself.
            while data[at] & 0x80:
                at += 1
            at += 1
        end = data.index(b"\0", at)
        start = end + 1 if version == 4 else start + ((end - start) // 8 + 1) * 8
    return False


def _read_text(path: Path) -> str | None:
    try:
        return os.fsdecode(path.read_bytes()).strip("\n")
    except OSError:
        return None
