"""Reads what an audit checks: each of coordinator's commits, what it changed, and what git would have produced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks_lib.errors import InputError
from tasks_lib.git.commits.commit import read_first_parents
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.commits.merge_tree import Conflict, is_ancestor, merge_trees
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.kept.restore_and_prune import list_kept
from tasks_lib.git.objects.object_database import Change, Entry, Objects
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.model import Task
from tasks_lib.reporting.audit_rules import CommitFacts, FileChange, is_ours


@dataclass(frozen=True, slots=True)
class CommitChain:
    """The first-parent commits that were read, newest first: their `count`, and coordinator's commits.

    `is_foreign_last`: the newest commit is not coordinator's. `is_whole`: the history was read to its beginning.
    """

    count: int
    ours: tuple[CommitFacts, ...]
    is_foreign_last: bool
    is_whole: bool


def read_chain(git: Git, head: str, limit: int) -> CommitChain:
    """Coordinator's commits among the last `limit` first-parent commits of `head`, without what they changed."""
    commits = read_first_parents(git, head, limit)
    ours = [
        CommitFacts(commit.id, commit.subject, commit.parents, trailers)
        for commit in commits
        if is_ours(commit.subject, trailers := commit.trailers)
    ]
    is_foreign_last = not ours or ours[0].id != commits[0].id
    return CommitChain(len(commits), tuple(ours), is_foreign_last, len(commits) < limit)


class Examiner:
    """Reads the facts of single commits; safe to use from several threads."""

    def __init__(self, git: Git, objects: Objects, reader: TaskReader) -> None:
        self._git: Git = git
        self._isolation: IsolatedGit = IsolatedGit(git)
        self._objects: Objects = objects
        self._reader: TaskReader = reader

    def examine(self, commit: CommitFacts) -> CommitFacts:
        """`commit` with all its facts filled in. Raises GitError if objects are missing."""
        if not commit.parents:
            return commit
        first = commit.parents[0]
        files, strange = self._compare(commit, first)
        is_nothing_new = len(commit.parents) > 1 and is_ancestor(self._git, commit.parents[1], first)
        return CommitFacts(
            commit.id,
            commit.subject,
            commit.parents,
            commit.trailers,
            self._read_tasks(first),
            self._read_tasks(commit.id),
            files,
            strange,
            is_nothing_new,
        )

    def _read_tasks(self, commit: str) -> Mapping[str, Task]:
        try:
            return {task.id: task for task in self._reader.read(commit).tasks}
        except InputError:
            return {}

    def _compare(self, commit: CommitFacts, first: str) -> tuple[tuple[FileChange, ...], tuple[str, ...]]:
        """The task files that changed from the first parent, and a description of each unexpected difference."""
        expected, strange = first, list[str]()
        if commit.kind == "merge" and len(commit.parents) == 2:
            merge = merge_trees(self._isolation, self._objects, first, commit.parents[1])
            if isinstance(merge, Conflict):
                return (), (merge.messages[0],)
            expected = merge.tree
            strange += [
                f"{path} is in conflict, and neither side resolved it"
                for path in merge.conflicted
                if not self._reader.covers(path)
            ]
        for path in self._list_paths(self._objects.diff(expected, commit.id)):
            if not self._is_task_file(path, expected, first, commit.id):
                strange.append(f"{path} is not what {'the merge gives' if expected != first else 'the head had'}")
        paths = self._list_paths(self._objects.diff(first, commit.id, self._reader.tasks_dir))
        changes = [self._read_change(path, first, commit.id) for path in paths]
        return tuple(change for change in changes if change), tuple(strange)

    def _list_paths(self, changes: Sequence[Change]) -> list[str]:
        """Every path that differs; a folder on either side is expanded to its files."""
        found: set[str] = set()
        for path, *sides in changes:
            for side in sides:
                if side is not None:
                    found |= self._open(path, side)
        return sorted(found)

    def _open(self, path: str, entry: Entry) -> set[str]:
        return {f"{path}/{name}" for name, _ in self._objects.walk(entry.oid)} if entry.is_tree else {path}

    def _is_task_file(self, path: str, *commits: str) -> bool:
        if not self._reader.covers(path):
            return False
        entries = (self._objects.find_entry(commit, path) for commit in commits)
        return any(self._reader.is_task_file(path, entry) for entry in entries if entry)

    def _read_change(self, path: str, first: str, commit: str) -> FileChange | None:
        if not self._is_task_file(path, first):
            # A file that was not a task file before is merged like any other; it counts once it is one.
            return FileChange(path, None, self._reader.text(commit, path)) if self._is_task_file(path, commit) else None
        return FileChange(path, self._reader.text(first, path), self._reader.text(commit, path))


def find_unreadable(repository: Repository) -> list[tuple[str, str]]:
    """The kept refs with missing objects, each with the first line of git's error."""
    git = repository.git
    refs = [kept.ref for kept in list_kept(repository)]
    options = ("rev-list", "--objects", "--quiet")
    known = ("--not", "--branches", "--tags")
    if not refs or git.run(*options, *refs, *known, accept=range(256)).status == 0:
        return []
    found = ((ref, git.run(*options, ref, *known, accept=range(256))) for ref in refs)
    return [(ref, result.stderr.strip().partition("\n")[0]) for ref, result in found if result.status]
