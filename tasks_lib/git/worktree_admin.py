"""Reads git's administrative files of linked worktrees, and distinguishes Coordinator's entries from all others.

A git command for each entry would cost too much. Coordinator touches only entries that carry its record: code that
changes or removes an entry takes it from `list_entries`, which yields no others.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.session_record import NOTICES_NAME, RECORD_NAME, read_git_link
from tasks_lib.process.files import write_atomically
from tasks_lib.text import read_count

MAKING = "coordinator: being made"
"""The lock reason that git writes into an entry, before anything else, while Coordinator creates it.

It is the record of an incomplete entry: one that the user left incomplete is locked as "initializing", or not at all.
"""
SLOT_NAME = "coordinator-slot"
"""The record of a complete entry, written before it is unlocked and kept for as long as the entry exists."""
_RECORDS = (SLOT_NAME, RECORD_NAME, NOTICES_NAME)
_PLAIN_NAMES = frozenset(
    {"HEAD", "ORIG_HEAD", "FETCH_HEAD", "COMMIT_EDITMSG", "commondir", "gitdir", "index", "logs", "refs"}
)


@dataclass(frozen=True, slots=True)
class Worktree:
    """One of Coordinator's linked worktrees: `git_dir` is its administrative directory, `branch` None if detached.

    `slot` is a number, 1 or more, that is unique among the repository's live worktrees; the worktree keeps it in the
    pool and across restarts. `is_resumed`: it already existed and is as it was left. `is_new_branch`: its branch was
    created with it, at the requested start.
    """

    path: Path
    git_dir: Path
    slot: int
    branch: str | None = None
    is_resumed: bool = False
    is_new_branch: bool = False

    @property
    def git(self) -> Git:
        """Git for this worktree, which works whatever an agent has done to its `.git`."""
        return Git(self.path, self.git_dir)


@dataclass(frozen=True, slots=True)
class Entry:
    """A worktree's administrative directory `admin` and the worktree `path` that it names.

    `head` is the content of HEAD; `locked` is the lock reason, None if it is not locked.
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
    def is_partial(self) -> bool:
        """Whether a run ended while it was creating this entry; never true of the user's entries."""
        return self.locked == MAKING

    @property
    def is_ours(self) -> bool:
        """Whether the entry carries Coordinator's record; any other is the user's, whatever its path or branch."""
        return self.is_partial or any((self.admin / name).is_file() for name in _RECORDS)

    @property
    def is_linked(self) -> bool:
        """Whether the worktree directory exists and its `.git` points to this entry."""
        return read_git_link(self.path) == self.admin

    @property
    def slot(self) -> int | None:
        return read_count(_read_text(self.admin / SLOT_NAME) or "") or None


def list_entries(repository: Repository) -> Iterator[Entry]:
    """List the entries below `.worktrees` that carry Coordinator's record, sorted by administrative directory."""
    return (entry for entry in list_all(repository) if entry.is_ours and _is_below(repository, entry))


def list_others(repository: Repository) -> list[Entry]:
    """List the entries below `.worktrees` that Coordinator did not create: to be reported, never changed."""
    return [entry for entry in list_all(repository) if not entry.is_ours and _is_below(repository, entry)]


def list_all(repository: Repository) -> Iterator[Entry]:
    """List every entry that names its worktree, including the user's, wherever that is."""
    root = repository.common_dir / "worktrees"
    for admin in sorted(root.iterdir()) if root.is_dir() else []:
        if entry := read_entry(admin):
            yield entry


def list_unrecorded(repository: Repository) -> list[Entry]:
    """List every entry without Coordinator's record: the user's, and those that agents created.

    Of Coordinator's own complete entries only one file is looked at, since this runs several times for each node.
    """
    root = str(repository.common_dir / "worktrees")
    try:
        names = sorted(name for name in os.listdir(root) if not os.path.isfile(f"{root}/{name}/{SLOT_NAME}"))  # noqa: PTH113, PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (read_entry(Path(root, name)) for name in names)
    return [entry for entry in found if entry and not entry.is_ours]


def _is_below(repository: Repository, entry: Entry) -> bool:
    return entry.path.is_relative_to(repository.worktrees_dir)


def read_entry(admin: Path) -> Entry | None:
    """Return the entry in `admin`, or None if it does not name its worktree."""
    link = _read_text(admin / "gitdir")
    if not link:
        return None
    # Since git 2.48 it may be relative. Symbolic links are not resolved: one may have replaced the worktree.
    path = Path(os.path.normpath(admin / link)).parent
    return Entry(admin, path, _read_text(admin / "HEAD") or "", _read_text(admin / "locked"))


def find_entry(repository: Repository, path: Path) -> Entry | None:
    """Return the entry of the worktree at `path`, if both point to each other, else None."""
    admin = read_git_link(path)
    if not admin or admin.parent != repository.common_dir / "worktrees":
        return None
    entry = read_entry(admin)
    return entry if entry and entry.path == path else None


def write_slot(admin: Path, slot: int) -> None:
    """Write `slot` to the entry, so that it survives a restart."""
    write_atomically(admin / SLOT_NAME, f"{slot}\n".encode())


def is_plain(worktree: Worktree, hash_bytes: int) -> bool:
    """Whether nothing in the worktree's administrative directory would affect its next use.

    False with a rebase or merge in progress, refs or settings of its own, a lock, submodules, or files that the index
    hides from checkout (assume-unchanged, skip-worktree), which would pass one node's bytes on to the next.
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
    """Whether an index marks files as assume-unchanged or skip-worktree; an unknown format counts as if it did.

    An index is a header (signature, version, count) and entries: 40 bytes of stat data, an object id, 2 bytes of
    flags (the highest bit is assume-unchanged; the next means that 2 more follow, whose second-highest bit is
    skip-worktree), the path and a NUL. Up to version 3, entries are padded to 8 bytes; in version 4, the path is a
    number of bytes to remove from the end of the previous path, and the bytes to append.
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
            # The number has 7 bits a byte, the highest bit means that more follow; it may itself be a zero byte.
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
