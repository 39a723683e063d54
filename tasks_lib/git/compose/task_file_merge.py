"""Decides which task files a merge may change: only the node's own, and new ones if the node plans."""

from dataclasses import dataclass, field

from tasks_lib.git.commits.merge_tree import RawMerge, find_merge_base
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.objects.object_database import Change, Entry, Objects
from tasks_lib.git.runner import Git
from tasks_lib.model import LEVELS_THAT_ADD_FILES, Task


@dataclass(slots=True)
class TaskFileResolution:
    """The changes to make in the merged tree (an entry to put, or None to remove), and the remaining conflicts.

    `conflicted` are paths that the user or an agent has to resolve; `clashes` describes, by path, what git does not
    report as a conflict: a folder on one side and a task file on the other, or a new task file that cannot be used.
    """

    entries: dict[str, Entry | None] = field(default_factory=dict[str, Entry | None])
    clashes: dict[str, str] = field(default_factory=dict[str, str])
    conflicted: list[str] = field(default_factory=list[str])


class TaskMerge:
    """Resolves the task files in one merge of `branch` (the work of `task`) onto `head`."""

    def __init__(self, git: Git, objects: Objects, reader: TaskReader, task: Task, head: str, branch: str) -> None:
        self._git: Git = git
        self._objects: Objects = objects
        self._reader: TaskReader = reader
        self._task: Task = task
        self._head: str = head
        self._branch: str = branch
        self._settled: TaskFileResolution = TaskFileResolution()
        self._added: dict[str, str] = {}
        self._base: str | None = None
        self._has_looked: bool = False

    @property
    def base(self) -> str | None:
        """The merge base, computed on first use, because most merges do not need it."""
        if not self._has_looked:
            self._base = find_merge_base(self._git, self._head, self._branch)
            self._has_looked = True
        return self._base

    def settle(self, merge: RawMerge) -> TaskFileResolution:
        """Decide what to do with every task file that differs between the merged tree and the head."""
        for change in self._objects.diff(self._head, merge.tree, self._reader.tasks_dir):
            self._settle_change(change, change.path in merge.conflicted)
        self._settled.conflicted = sorted(path for path in merge.conflicted if not self._is_answered(path))
        return self._settled

    def _settle_change(self, change: Change, is_conflict: bool) -> None:
        path, old, new = change
        if old and old.is_tree:
            if self._has_task_files(path, self._head):
                self._settled.clashes[path] = f"{path} is a folder with task files on the head and a file on the branch"
        elif new and new.is_tree:
            self._settle_folder(path, old, new)
        elif self._is_task_file(path, old, new, *self._find_elsewhere(path, is_conflict)):
            self._settle_file(path, old, new)

    def _settle_folder(self, path: str, old: Entry | None, new: Entry) -> None:
        if self._is_task_file(path, old):
            self._settled.clashes[path] = f"{path} is a task file on the head and a folder on the branch"
            return
        for name, entry in self._objects.walk(new.oid):
            if self._is_task_file(f"{path}/{name}", entry):
                self._settle_file(f"{path}/{name}", None, entry)

    def _settle_file(self, path: str, old: Entry | None, new: Entry | None) -> None:
        if old is None and new is not None and self._may_add(path):
            self._settle_added(path, new)
        else:
            self._settled.entries[path] = old

    def _may_add(self, path: str) -> bool:
        """Whether a file that the head lacks may be added: only by planning, and not if the head deleted it."""
        if self._task.level not in LEVELS_THAT_ADD_FILES:
            return False
        return self.base is None or self._objects.find_entry(self.base, path) is None

    def _settle_added(self, path: str, new: Entry) -> None:
        """Keep the file of a new task; drop one whose task the head has at another path: it was renamed or copied."""
        task, faults = self._reader.parse(path, new)
        wrong = [str(fault) for fault in faults if not fault.is_warning]
        if task is None or wrong:
            # On the head, it would make the whole graph invalid.
            self._settled.clashes[path] = "\n".join(wrong) or f"{path} is not a valid task file after the merge"
        elif self._reader.read(self._head).find(task.id):
            self._settled.entries[path] = None
        elif (first := self._added.setdefault(task.id, path)) != path:
            self._settled.clashes[path] = f'{path} has the same id "{task.id}" as {first}; give each its own id'

    def _is_answered(self, path: str) -> bool:
        """Whether git's conflict at `path` is already resolved by the rules for task files."""
        if path in self._settled.entries:
            return True
        if not self._reader.covers(path):
            return False
        head = self._objects.find_entry(self._head, path)
        branch, *base = self._find_elsewhere(path, is_conflict=True)
        # If neither side has it, both renamed it, and this is the old name; the new names are resolved separately.
        return (head is None and branch is None) or self._is_task_file(path, head, branch, *base)

    def _find_elsewhere(self, path: str, is_conflict: bool) -> list[Entry | None]:
        """Return the entry at `path` on the branch and, in a conflict, at the merge base.

        The merge base, because one side may have deleted a task file that is no longer one on the other side.
        """
        commits = [self._branch, *([self.base] if is_conflict and self.base else [])]
        return [self._objects.find_entry(commit, path) for commit in commits]

    def _is_task_file(self, path: str, *entries: Entry | None) -> bool:
        return self._reader.covers(path) and any(self._reader.is_task_file(path, e) for e in entries if e)

    def _has_task_files(self, folder: str, commit: str) -> bool:
        return any(self._is_task_file(path, entry) for path, entry in self._objects.walk(commit, folder))
