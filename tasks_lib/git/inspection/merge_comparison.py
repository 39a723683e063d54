"""Reads the files in which a merge may have dropped changes: both sides, their base and the result as texts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.commits.merge_tree import Conflict, is_ancestor, merge_trees
from tasks_lib.git.inspection.conflict_sides import Renames, open_sides
from tasks_lib.git.objects.object_database import Entry, Objects
from tasks_lib.git.runner import Git
from tasks_lib.session.dropped_hunks import Sides

MAX_TEXT_BYTES = 1 << 20
"""A file beyond this size is compared as a whole: no one resolves conflicts in it line by line."""
MAX_FILES = 200
"""How many files of one merge are compared."""
MAX_MERGES = 20
"""How many merges of a branch are examined, the newest ones."""
_BINARY_BYTES = 8_000
"""As in git, a file with a zero byte among the first 8,000 is binary."""


@dataclass(frozen=True, slots=True)
class OwnMerge:
    """The merge `commit` on a branch: of `target`, which is part of the head, into `branch`."""

    commit: str
    target: str
    branch: str


@dataclass(frozen=True, slots=True)
class MergeReader:
    """Reads merges of one repository; `is_excluded` says which paths coordinator settles itself. All methods block."""

    git: Git
    objects: Objects
    isolation: IsolatedGit
    is_excluded: Callable[[str], bool]

    def merge(self, head: str, branch: str) -> str | None:
        """The tree of the merge of two commits, or None if they conflict outside of the excluded paths."""
        merged = merge_trees(self.isolation, self.objects, head, branch)
        if isinstance(merged, Conflict) or any(not self.is_excluded(path) for path in merged.conflicted):
            return None
        return merged.tree

    def read(self, head: str, branch: str, result: str) -> tuple[Sides, ...]:
        """The files that conflict between two commits, or in which the tree `result` is not what git merges itself.

        Only those that at least one side has changed.
        """
        sides, merged = open_sides(self.git, self.objects, head, branch), None
        if sides:
            merged = merge_trees(self.isolation, self.objects, head, branch)
        if sides is None or merged is None or isinstance(merged, Conflict):
            return ()
        differing = {change.path for change in self.objects.diff(merged.tree, result)}
        paths = sorted(path for path in {*differing, *merged.conflicted} if not self.is_excluded(path))
        renames = sides.read_renames() if paths else Renames({}, {})
        commits = (sides.base, head, branch, result)
        found: dict[str, Sides] = {}
        for path in paths:
            for one in self._read_path(path, renames.relate(path), commits):
                found.setdefault(one.path, one)
        return tuple(found.values())[:MAX_FILES]

    def _read_path(self, path: str, names: Sequence[str], commits: Sequence[str]) -> Iterator[Sides]:
        """The file `path`, which may have other `names` in some of the `commits`: base, head, branch and result."""
        entries = [self._find(commit, names) for commit in commits]
        base, head, branch, result = entries
        if base == head == branch or any(entry and entry.is_tree for entry in entries):
            return
        here = next((one for one in names if self.objects.find_entry(commits[3], one)), path)
        texts = [self._read_text(entry) for entry in entries]
        if any(entry and text is None for entry, text in zip(entries, texts, strict=True)):
            whole = [f"{entry.mode} {entry.oid}" if entry else None for entry in entries]
            yield Sides(here, whole[0], whole[1], whole[2], whole[3], is_text=False)
            return
        yield Sides(here, texts[0], texts[1], texts[2], texts[3])
        if base and head and branch and result:
            modes = [entry.mode for entry in (base, head, branch, result)]
            yield Sides(f"{here} (mode)", modes[0], modes[1], modes[2], modes[3], is_text=False)

    def _find(self, commit: str, names: Sequence[str]) -> Entry | None:
        found = (self.objects.find_entry(commit, name) for name in names)
        entry = next((one for one in found if one), None)
        return Entry(entry.mode, "", entry.oid) if entry else None

    def _read_text(self, entry: Entry | None) -> str | None:
        if entry is None or not entry.is_file:
            return None
        if self.objects.measure([entry.oid]).get(entry.oid, MAX_TEXT_BYTES + 1) > MAX_TEXT_BYTES:
            return None
        data = self.objects.read(entry.oid)
        return None if b"\0" in data[:_BINARY_BYTES] else data.decode("utf-8", "replace")

    def list_merges(self, own: Sequence[str], head: str) -> list[OwnMerge]:
        """The merges among the commits `own` of a branch that brought in what the head has, the newest first."""
        found: list[OwnMerge] = []
        for commit in own:
            parents = read_commit(self.objects, commit).parents
            if len(parents) != 2:
                continue
            landed = [is_ancestor(self.git, parent, head) for parent in parents]
            if landed[0] != landed[1]:
                target, branch = parents if landed[0] else parents[::-1]
                found.append(OwnMerge(commit, target, branch))
            if len(found) == MAX_MERGES:
                break
        return found
