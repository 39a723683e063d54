"""Reads what both sides of a merge did to its conflicting paths since their merge base, renames included."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tasks_lib.git.commits.commit import Commit, read_commit
from tasks_lib.git.commits.merge_tree import find_merge_base
from tasks_lib.git.objects.object_database import Entry, Objects
from tasks_lib.git.runner import Git

MAX_COMMITS = 200
"""How many commits of the head, the newest, are examined for what they changed in the conflicting paths."""
MAX_DIFF_BYTES = 64_000
_DIFF = ("--no-ext-diff", "--no-textconv", "--find-renames", "--irreversible-delete", "--submodule=short")
_RENAME_LIMIT = "-l400"
"""Beyond 400 files that were added or deleted, only exact renames are found, as more would take seconds."""
_KINDS = {"120000": "link", "160000": "submodule", "100755": "executable"}


@dataclass(frozen=True, slots=True)
class Renames:
    """What each side renamed since the merge base: the old name by the new one."""

    head: Mapping[str, str]
    branch: Mapping[str, str]

    def relate(self, path: str) -> tuple[str, ...]:
        """All names that `path` has at the merge base and on either side, itself first."""
        old = self.head.get(path) or self.branch.get(path) or path
        others = [new for side in (self.head, self.branch) for new, one in side.items() if one == old]
        return tuple(dict.fromkeys((path, old, *others)))


@dataclass(frozen=True, slots=True)
class SidesReader:
    """Reads both sides of the merge of the commit `branch` onto the commit `head`; `base` is their merge base.

    All methods block.
    """

    git: Git
    objects: Objects
    base: str
    head: str
    branch: str

    def read_renames(self) -> Renames:
        return Renames(self._read_renames(self.head), self._read_renames(self.branch))

    def _read_renames(self, side: str) -> dict[str, str]:
        words = ("--no-ext-diff", "--find-renames", _RENAME_LIMIT, "--diff-filter=R", "--name-status", "-z")
        fields = self.git.run("diff", *words, self.base, side, "--").text.split("\0")
        return dict(zip(fields[2::3], fields[1::3], strict=False))

    def read_diff(self, side: str, paths: Collection[str]) -> str:
        """What `side` changed in `paths` since the merge base, as git shows it; of a deleted file only that."""
        words = ("--literal-pathspecs", "diff", *_DIFF, self.base, side, "--", *sorted(paths))
        return self.git.run(*words).stdout[:MAX_DIFF_BYTES].decode("utf-8", "replace")

    def find_kind(self, commit: str, paths: Sequence[str]) -> str:
        """What is at the first of `paths` that exists in `commit`: `file`, `link` and the like, "" for nothing."""
        found = (self.objects.find_entry(commit, path) for path in paths)
        return next((_name_kind(entry) for entry in found if entry), "")

    def list_head_commits(self, paths: Collection[str]) -> list[Commit]:
        """The commits in the first-parent history of the head since the merge base that changed `paths`, newest first.

        A merge stands for all that it brought.
        """
        if not paths:
            return []
        words = ("--first-parent", f"--max-count={MAX_COMMITS}", self.head, f"^{self.base}", "--", *sorted(paths))
        found = self.git.text("--literal-pathspecs", "rev-list", *words).split()
        return [read_commit(self.objects, commit) for commit in found]

    def list_touched(self, commit: Commit, paths: Collection[str]) -> tuple[str, ...]:
        """Those of `paths` that `commit` changed compared with its first parent."""
        if not commit.parents:
            return tuple(paths)
        before, after = commit.parents[0], commit.id
        return tuple(
            one for one in paths if self.objects.find_entry(before, one) != self.objects.find_entry(after, one)
        )


def open_sides(git: Git, objects: Objects, head: str, branch: str) -> SidesReader | None:
    """A reader of both sides, or None if they have no commit in common."""
    base = find_merge_base(git, head, branch)
    return SidesReader(git, objects, base, head, branch) if base else None


def _name_kind(entry: Entry) -> str:
    return "folder" if entry.is_tree else _KINDS.get(entry.mode, "file")
