"""Reads what a worktree contains while its agent works, uncommitted files included, without changing anything in it."""

import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import BranchState, read_state
from tasks_lib.git.commits.merge_tree import find_merge_base
from tasks_lib.git.inspection.private_index import PrivateIndexes
from tasks_lib.git.inspection.tree_stats import TreeStats
from tasks_lib.git.objects.object_database import FILE_MODE, Entry, Objects
from tasks_lib.git.objects.quarantine import TRANSIENT, Quarantine
from tasks_lib.git.runner import Git
from tasks_lib.git.worktree_admin import Worktree
from tasks_lib.process.files import read_stamp

MOST_BYTES = 1 << 20
"""A larger uncommitted file counts as unchanged until it is committed: it would be read again and again."""
MOST_PATHS = 500
"""How many uncommitted paths count, sorted by name; more are a sign of a folder that should be ignored."""
MOST_CHANGES = 5_000
"""A branch that has changed more paths than this, by its commits, is left out."""
HASH_SECONDS = 20.0
"""How long git may take to read the changed files; a filter may have to convert them."""
_REMEMBERED = 500
_OPERATIONS = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply")
_EXECUTABLE = "100755"
_LINK = "120000"
_AUTHOR = "coordinator <coordinator@localhost> 0 +0000"


class Stamp(NamedTuple):
    """What tells that a file may have changed: size and times of its content and of its entry, and its mode."""

    size: int
    modified: int
    changed: int
    mode: int


@dataclass(frozen=True, slots=True)
class LiveState:
    """The content of a worktree as the commit `state` with the tree `tree`.

    If there are no uncommitted files, it is the branch's own. `changes` maps each path that differs from the commit
    `base`, where the branch left the head, to its entries before and now.
    """

    state: str
    base: str
    tree: str
    is_committed: bool
    changes: Mapping[str, tuple[Entry | None, Entry | None]]


@dataclass(slots=True)
class _Seen:
    """What is known of one worktree from the last look: the blobs of uncommitted files, and the whole state."""

    entries: Mapping[str, tuple[Stamp, Entry]]
    key: object = None
    found: LiveState | None = None


class LiveStates:
    """Looks at the worktrees of one run; call it from one thread at a time.

    What git has to store for that is in `quarantine`. `is_ignored` says which paths do not count. States of an earlier
    `generation` that are not commits of a branch no longer exist.
    """

    def __init__(self, git: Git, quarantine: Quarantine, is_ignored: Callable[[str], bool]) -> None:
        self.quarantine: Quarantine = quarantine
        self.objects: Objects = Objects(git, quarantine)
        self.generation: int = 0
        self._git: Git = git
        self._stats: TreeStats = TreeStats(git.directory, {**git.variables, **quarantine.environment})
        self._indexes: PrivateIndexes = PrivateIndexes(quarantine.place / "indexes")
        self._is_ignored: Callable[[str], bool] = is_ignored
        self._seen: dict[Path, _Seen] = {}
        self._bases: OrderedDict[str, str] = OrderedDict()

    def close(self) -> None:
        """End git's helper processes."""
        self.objects.close()
        self._stats.close()

    def look(
        self, worktree: Worktree, head: str, is_known: Callable[[str], bool] = lambda _: False
    ) -> LiveState | None:
        """Return what `worktree` contains; None in the middle of a merge or rebase, or if it has changed too much.

        `is_known` says of an uncommitted path that it is not the agent's work. Raises GitError or OSError if the
        worktree cannot be read.
        """
        if self.quarantine.is_full:
            self.quarantine.clear()
            self._seen.clear()
            self.generation += 1
        if is_in_operation(worktree):
            return None
        found = read_state(self._indexes.open(worktree))
        if not found.commit or found.commit == "(initial)" or is_in_operation(worktree):
            return None
        stamps = dict(_list_stamps(worktree, found))
        seen = self._seen.setdefault(worktree.git_dir, _Seen({}))
        key = (found.commit, stamps)
        if seen.found is None or seen.key != key:
            seen.found = self._read(worktree, head, found.commit, stamps, seen, is_known)
            seen.key = key
        return seen.found

    def summarize(self, state: LiveState) -> str:
        """Return how much `state` changes, as `3 files +40 -2`; "" if nothing."""
        return self._stats.compare(self.objects.find_tree(state.base), state.tree) if state.changes else ""

    def read_commit(self, commit: str, base: str) -> LiveState:
        """Return what a branch that began at `base` contains at `commit`."""
        changes = {one.path: (one.old, one.new) for one in self.objects.diff(base, commit)}
        own = {path: pair for path, pair in changes.items() if not self._is_ignored(path)}
        return LiveState(commit, base, self.objects.find_tree(commit), is_committed=True, changes=own)

    def forget(self, worktree: Worktree) -> None:
        """Drop what is known of a worktree that is not looked at any more."""
        self._seen.pop(worktree.git_dir, None)
        self._indexes.forget(worktree)

    def _read(
        self,
        worktree: Worktree,
        head: str,
        commit: str,
        stamps: Mapping[str, Stamp | None],
        seen: _Seen,
        is_known: Callable[[str], bool],
    ) -> LiveState | None:
        base = self._find_base(head, commit)
        changes = {one.path: (one.old, one.new) for one in self.objects.diff(base, commit)}
        if len(changes) > MOST_CHANGES:
            return None
        uncommitted = self._list_uncommitted(worktree, commit, stamps, seen, is_known)
        for path, entry in uncommitted.items():
            old = self.objects.find_entry(base, path)
            changes[path] = (old if old and not old.is_tree else None, entry)
        own = {path: pair for path, pair in changes.items() if _differs(*pair) and not self._is_ignored(path)}
        tree = self.objects.put_entries(commit, uncommitted) if uncommitted else self.objects.find_tree(commit)
        state = self._write_state(commit, tree) if uncommitted else commit
        return LiveState(state, base, tree, is_committed=not uncommitted, changes=own)

    def _find_base(self, head: str, commit: str) -> str:
        if commit not in self._bases:
            self._bases[commit] = find_merge_base(self._git, head, commit) or commit
            while len(self._bases) > _REMEMBERED:
                self._bases.popitem(last=False)
        return self._bases[commit]

    def _list_uncommitted(
        self,
        worktree: Worktree,
        commit: str,
        stamps: Mapping[str, Stamp | None],
        seen: _Seen,
        is_known: Callable[[str], bool],
    ) -> dict[str, Entry | None]:
        """Map the paths that differ from `commit` to their entries, None if they are gone."""
        wanted = {path: stamp for path, stamp in stamps.items() if not self._is_ignored(path)}
        known = {path: seen.entries[path][1] for path, stamp in wanted.items() if _is_same(seen, path, stamp)}
        fresh = {path: stamp for path, stamp in wanted.items() if stamp and path not in known and not is_known(path)}
        entries: dict[str, Entry] = {**known, **self._hash(worktree, fresh)}
        seen.entries = {path: (stamp, entries[path]) for path, stamp in wanted.items() if stamp and path in entries}
        found: dict[str, Entry | None] = {}
        for path, stamp in wanted.items():
            before = self.objects.find_entry(commit, path)
            now = entries.get(path)
            if before and (before.is_tree or before.mode == "160000"):
                before = None
            if (stamp is None and before) or (now and _differs(before, now)):
                found[path] = now
        return found

    def _hash(self, worktree: Worktree, stamps: Mapping[str, Stamp]) -> dict[str, Entry]:
        """Store the content of files and links in the quarantine, converted as git does when it adds them."""
        links = [path for path, stamp in stamps.items() if stat.S_ISLNK(stamp.mode)]
        files = [path for path, stamp in stamps.items() if stat.S_ISREG(stamp.mode)]
        entries = {path: _name(path, _LINK, self._write_link(worktree.path / path)) for path in links}
        if files:
            listed = "".join(f"{path}\n" for path in files).encode("utf-8", "surrogateescape")
            words = (*TRANSIENT, "hash-object", "-w", "--stdin-paths")
            hashed = worktree.git.run(
                *words, stdin=listed, environment=self.quarantine.environment, seconds=HASH_SECONDS
            ).text.split("\n")
            self.quarantine.count(sum(stamps[path].size for path in files))
            for path, oid in zip(files, hashed, strict=True):
                entries[path] = _name(path, _EXECUTABLE if stamps[path].mode & 0o100 else FILE_MODE, oid)
        return entries

    def _write_link(self, path: Path) -> str:
        try:
            return self.quarantine.write("blob", os.fsencode(path.readlink()))
        except OSError as error:
            raise GitError(("hash-object",), -1, f"{path} changed while it was read") from error

    def _write_state(self, commit: str, tree: str) -> str:
        lines = (f"tree {tree}", f"parent {commit}", f"author {_AUTHOR}", f"committer {_AUTHOR}", "", "")
        return self.quarantine.write("commit", "\n".join(lines).encode())


def is_in_operation(worktree: Worktree) -> bool:
    """Whether a merge, rebase or the like is in progress, so that files may have conflict markers."""
    return any((worktree.git_dir / name).exists() for name in _OPERATIONS)


def read_commit_stamp(worktree: Worktree) -> object:
    """Return what changes with every commit on the branch of `worktree`."""
    return read_stamp(worktree.git_dir / "logs" / "HEAD"), read_stamp(worktree.git_dir / "HEAD")


def _list_stamps(worktree: Worktree, found: BranchState) -> Iterator[tuple[str, Stamp | None]]:
    """Yield the uncommitted paths that count, with a stamp of files and links, None for those that are gone.

    Repositories in the worktree do not count, nor do names that cannot be handed to git line by line.
    """
    for path in sorted(found.dirty)[:MOST_PATHS]:
        if path.endswith("/") or path.startswith('"') or "\n" in path:
            continue
        try:
            one = (worktree.path / path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            yield path, None
            continue
        except OSError:
            continue
        if stat.S_ISDIR(one.st_mode):  # In place of a file, whose new paths are listed too; or a submodule.
            yield path, None
            continue
        is_link = stat.S_ISLNK(one.st_mode)
        is_readable = is_link or (stat.S_ISREG(one.st_mode) and os.access(worktree.path / path, os.R_OK))
        if is_readable and one.st_size <= MOST_BYTES:
            yield path, Stamp(one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_mode)


def _is_same(seen: _Seen, path: str, stamp: Stamp | None) -> bool:
    return path in seen.entries and seen.entries[path][0] == stamp


def _differs(old: Entry | None, new: Entry | None) -> bool:
    return (old and (old.mode, old.oid)) != (new and (new.mode, new.oid))


def _name(path: str, mode: str, oid: str) -> Entry:
    return Entry(mode, path.rpartition("/")[2], oid)
