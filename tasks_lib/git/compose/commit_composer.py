"""Composes the commits that the head may move to, in memory: merges, checks, blockers, resolutions; moves no ref."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tasks_lib.errors import Fault, InputError
from tasks_lib.git.commits import commit_messages
from tasks_lib.git.commits.commit_messages import make_line, write_message
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.commits.merge_tree import Conflict, describe_conflict, is_ancestor, merge_trees
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.compose.task_file_merge import TaskFileResolution, TaskMerge
from tasks_lib.git.compose.task_file_text import block_text, complete_text, read_summary, resolve_text
from tasks_lib.git.objects.commit_writer import CommitWriter
from tasks_lib.git.objects.object_database import Entry, Objects
from tasks_lib.git.runner import Git
from tasks_lib.model import Task
from tasks_lib.taskfile.parsing import decode, encode, parse_task
from tasks_lib.text import cut, drop_controls

__all__ = ["Candidate", "Composer", "Conflict", "Landing", "NewTask"]


@dataclass(frozen=True, slots=True)
class Landing:
    """The work to land: that of `task` on `branch`, at the commit `commit`.

    `verified` is the digest of the verify commands, `reviewed` the result of the review ("" for none), `summary` the
    agent's report, used if the task file has no Summary; `identity` is added to git's environment. `spent` describes
    what the node's sessions used.
    """

    task: Task
    branch: str
    commit: str
    attempt: int
    run: str
    session: str
    verified: str
    reviewed: str = ""
    summary: str = ""
    identity: Mapping[str, str] = field(default_factory=dict[str, str])
    spent: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A commit that the head may move to once it is verified, with its `tree` and the `head` it was composed on."""

    commit: str
    tree: str
    head: str


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task file to add: its id, its path relative to the top, and its text."""

    id: str
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class MergedTree:
    """A tree with a branch merged and its task completed; `is_ancestor` if the head already contains the branch."""

    tree: str
    summary: str
    is_ancestor: bool


class Composer:
    """Composes commits in one repository; thread-safe. `identity` is added to git's environment."""

    def __init__(
        self,
        git: Git,
        objects: Objects,
        reader: TaskReader,
        identity: Mapping[str, str] | None = None,
        isolation: IsolatedGit | None = None,
    ) -> None:
        self.git: Git = git
        self._isolation: IsolatedGit = isolation or IsolatedGit(git)
        self.objects: Objects = objects
        self.reader: TaskReader = reader
        self._commits: CommitWriter = CommitWriter(git, objects)
        self._identity: Mapping[str, str] = dict(identity or {})

    def compose_merge(self, landing: Landing, head: str) -> Candidate | Conflict:
        """Merge the branch onto `head` in one commit whose tree also marks the task as completed.

        Raises InputError if the head has no task file with that id.
        """
        merged = self.merge_branch(landing.task, landing.commit, head, landing.summary)
        if isinstance(merged, Conflict):
            return merged
        message = write_message(f"Merge {landing.branch}: {landing.task.name}", merged.summary, _list_trailers(landing))
        parents = [head] if merged.is_ancestor else [head, landing.commit]
        return self.commit(merged.tree, parents, message, landing.identity)

    def compose_checked(self, landing: Landing, head: str) -> Candidate:
        """Complete a node that made no commits, with one commit that changes only its task file.

        Raises InputError if the head has no task file with that id.
        """
        path, _, before = self._read_own(landing.task, head)
        text = complete_text(before, None, None, landing.summary)
        tree = self._put_texts(head, {path: text})
        subject = f"Check {landing.task.id}: {landing.task.name}"
        message = write_message(subject, read_summary(text), _list_trailers(landing))
        return self.commit(tree, [head], message, landing.identity)

    def compose_blocker(
        self,
        task: Task,
        head: str,
        *,
        reason: str,
        notes: str,
        resolve: NewTask | None,
        attempt: int,
        run: str,
        session: str,
        details: Sequence[str] = (),
    ) -> Candidate:
        """Record that `task` is blocked: set its status and Notes, and add the task file `resolve`, if any.

        `details` are the lines below the reason in the Notes.

        Raises InputError if the head has no task file with that id, or already has a file at the new one's path.
        """
        path, _, before = self._read_own(task, head)
        texts = {path: block_text(before, reason, notes, resolve.id if resolve else "", details)}
        if resolve:
            self._check_free(resolve, head)
            texts[resolve.path] = resolve.text
        subject = f"blocked({task.id}): {cut(make_line(reason), commit_messages.REASON_CHARS)}"
        trailers = {commit_messages.TASK: task.id, commit_messages.ATTEMPT: str(attempt), commit_messages.RUN: run}
        message = write_message(subject, "", {**trailers, commit_messages.SESSION: session})
        return self.commit(self._put_texts(head, texts), [head], message)

    def compose_edit(
        self,
        task: Task,
        head: str,
        edit: Callable[[str], str],
        subject: str,
        trailers: Mapping[str, str],
        added: Sequence[NewTask] = (),
    ) -> Candidate:
        """Change the file of `task` as `edit` does, and add the task files `added`, in one commit.

        Raises InputError if the head has no task file with that id, or already has a file at the path of a new one.
        """
        path, _, before = self._read_own(task, head)
        texts = {path: edit(before)}
        for new in added:
            self._check_free(new, head)
            texts[new.path] = new.text
        message = write_message(subject, "", {commit_messages.TASK: task.id, **trailers})
        return self.commit(self._put_texts(head, texts), [head], message)

    def compose_addition(self, new: NewTask, head: str, subject: str, trailers: Mapping[str, str]) -> Candidate:
        """Add the task file `new` in one commit. Raises InputError if the head already has a file at its path."""
        self._check_free(new, head)
        return self.commit(self._put_texts(head, {new.path: new.text}), [head], write_message(subject, "", trailers))

    def compose_file(self, path: str, text: str, head: str, subject: str, trailers: Mapping[str, str]) -> Candidate:
        """Add the file `path`, which is no task file, in one commit. Raises InputError if something is in its way."""
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            known = "/".join(parts[:count])
            entry = self.objects.find_entry(head, known)
            if entry and (count == len(parts) or not entry.is_tree):
                raise InputError([Fault(known, 0, f"is in the way of the new file {path}; move it")])
        return self.commit(self._put_texts(head, {path: text}), [head], write_message(subject, "", trailers))

    def compose_resolution(
        self,
        task: Task,
        head: str,
        *,
        guidance: str,
        run: str,
        edited: Task | None = None,
        edit: Callable[[str], str] | None = None,
    ) -> Candidate:
        """Complete the resolve task `task` for a person, in one commit that changes only its file and that of `edited`.

        `guidance` ("" for none) is what the person tells the agents of the nodes that wait for it; without a run, `run`
        is "". `edit` changes the file of `edited`. Raises InputError if the head has no task file with that id, or a
        file would no longer be valid.
        """
        path, _, before = self._read_own(task, head)
        texts = {path: resolve_text(before, guidance)}
        if edited and edit:
            edited_path, _, edited_before = self._read_own(edited, head)
            texts[edited_path] = edit(edited_before)
        faults = [fault for path, text in texts.items() for fault in parse_task(encode(text), path)[1]]
        if errors := [fault for fault in faults if not fault.is_warning]:
            raise InputError(errors)
        said = make_line(drop_controls(guidance))
        subject = f"resolved({task.id}): {cut(said or make_line(task.name), commit_messages.REASON_CHARS)}"
        body = guidance if cut(said, commit_messages.REASON_CHARS) != guidance.strip() else ""
        message = write_message(subject, body, {commit_messages.TASK: task.id, commit_messages.RUN: run})
        return self.commit(self._put_texts(head, texts), [head], message)

    def merge_branch(self, task: Task, branch: str, head: str, summary: str) -> MergedTree | Conflict:
        """Merge the commit `branch` onto `head` and complete `task` in the tree; `summary` is used if it lacks one.

        Raises InputError if the head has no task file with that id.
        """
        path, entry, before = self._read_own(task, head)
        merge = merge_trees(self._isolation, self.objects, head, branch)
        if isinstance(merge, Conflict):
            return merge
        rules = TaskMerge(self.git, self.objects, self.reader, task, head, branch)
        settled = rules.settle(merge)
        if settled.conflicted or settled.clashes:
            found = describe_conflict(self.git, merge, settled.conflicted, head, branch)
            return replace(found, clashes=tuple(line for one in settled.clashes.values() for line in one.splitlines()))
        text = self._complete_own(path, entry, before, rules, branch, summary)
        tree = self._put_settled(merge.tree, settled, path, entry, text)
        was_there = branch == head or (
            merge.tree == self.objects.find_tree(head) and is_ancestor(self.git, branch, head)
        )
        return MergedTree(tree, read_summary(text), was_there)

    def find_task(self, task: Task, head: str) -> tuple[str, Entry]:
        """Find the path and entry of `task`'s file at `head`. Raises InputError if it is missing or invalid there."""
        entry = self.objects.find_entry(head, task.path)
        if entry and entry.is_file:
            # The file is unchanged if `task` was read from the same blob; otherwise its id must match.
            found, faults = (task, ()) if entry.oid == task.blob else self.reader.parse(task.path, entry)
            if found and found.id == task.id:
                return task.path, entry
            if found is None and faults:
                raise InputError(faults)
        moved = self.reader.read(head).find(task.id)
        entry = self.objects.find_entry(head, moved.path) if moved else None
        if moved and entry:
            return moved.path, entry
        raise InputError([Fault(task.path, 0, _describe_missing(task.id, head))])

    def commit(
        self, tree: str, parents: Sequence[str], message: str, identity: Mapping[str, str] | None = None
    ) -> Candidate:
        """Write a commit; the first of `parents` is the head that it is composed on."""
        environment = {**self._identity, **(identity or {})}
        written = self._commits.write(tree, parents, message, environment)
        return Candidate(written, tree, parents[0])

    def _read_own(self, task: Task, head: str) -> tuple[str, Entry, str]:
        path, entry = self.find_task(task, head)
        return path, entry, decode(self.objects.read(entry.oid))

    def _complete_own(self, path: str, entry: Entry, before: str, rules: TaskMerge, branch: str, summary: str) -> str:
        theirs = self.objects.find_entry(branch, path)
        if theirs is None or not theirs.is_file or theirs.oid == entry.oid:
            return complete_text(before, None, None, summary)
        base = self.reader.text(rules.base, path) if rules.base else None
        return complete_text(before, self.reader.text(branch, path), base, summary)

    def _put_settled(self, tree: str, settled: TaskFileResolution, path: str, entry: Entry, text: str) -> str:
        own = Entry(entry.mode, entry.name, self.objects.write_blob(encode(text)))
        return self.objects.put_entries(tree, {**settled.entries, path: own})

    def _put_texts(self, head: str, texts: Mapping[str, str]) -> str:
        blobs = {path: self.objects.write_blob(encode(text)) for path, text in texts.items()}
        return self.objects.edit_tree(head, blobs)

    def _check_free(self, resolve: NewTask, head: str) -> None:
        if not self.reader.covers(resolve.path):
            raise InputError([f'A task file cannot be added at "{resolve.path}": it is not below the task folder.'])
        if self.objects.find_entry(head, resolve.path):
            raise InputError([Fault(resolve.path, 0, f'is in the way of the new task "{resolve.id}"; rename it')])


def _list_trailers(landing: Landing) -> dict[str, str]:
    return {
        commit_messages.TASK: landing.task.id,
        commit_messages.ATTEMPT: str(landing.attempt),
        commit_messages.RUN: landing.run,
        commit_messages.SESSION: landing.session,
        commit_messages.VERIFIED: landing.verified,
        commit_messages.REVIEWED: landing.reviewed,
        commit_messages.SPENT: landing.spent,
    }


def _describe_missing(task_id: str, head: str) -> str:
    return (
        f'the head ({head[:10]}) has no task file of id "{task_id}" any more, so its work cannot be recorded; '
        "put the file back, or remove the branch"
    )
