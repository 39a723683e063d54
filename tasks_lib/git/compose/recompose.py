"""Recreates one of Coordinator's unpublished commits on another parent, by the rules that first composed it."""

from tasks_lib.git.commits import commit_messages
from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.commits.merge_tree import Conflict, list_commits
from tasks_lib.git.compose.commit_composer import Candidate, Composer
from tasks_lib.git.compose.task_file_text import read_summary
from tasks_lib.git.objects.object_database import Change, Entry
from tasks_lib.model import Task
from tasks_lib.process.private_directories import private_directory
from tasks_lib.taskfile.parsing import parse_task

_MERGE_FILE_FAILED = 128
"""`git merge-file` exits with the number of conflicts, at most 127; a greater status is a failure."""


def recompose(composer: Composer, commit: str, onto: str, verified: str) -> Candidate | Conflict:
    """Recreate `commit`, one of Coordinator's unpublished commits, with `onto` as its first parent.

    A merge is merged again; the changes of a commit of only task files are applied again, file by file. The message is
    kept, except that `verified`, the digest of the verify commands for the new commit, replaces the old one: settings
    may have changed since. Also returns a Conflict if `onto` no longer has the task.
    """
    old = read_commit(composer.objects, commit)
    message = commit_messages.replace_trailer(old.message, commit_messages.VERIFIED, verified)
    task_id = old.trailers.get(commit_messages.TASK, "")
    task = composer.reader.read(onto).find(task_id)
    if not old.parents or task is None:
        return _explain(
            commit, f'its task "{task_id}" is not on the new base' if task_id else "it was not made by Coordinator"
        )
    parent, *merged = old.parents
    if merged:
        return _merge_again(composer, commit, merged[0], onto, task, message)
    return _apply_again(composer, commit, parent, onto, message)


def _merge_again(
    composer: Composer, commit: str, branch: str, onto: str, task: Task, message: str
) -> Candidate | Conflict:
    old = composer.reader.read(commit).find(task.id)
    summary = read_summary(composer.reader.text(commit, old.path)) if old else ""
    merged = composer.merge_branch(task, branch, onto, summary)
    if isinstance(merged, Conflict):
        return merged
    return composer.commit(merged.tree, [onto] if merged.is_ancestor else [onto, branch], message)


def _apply_again(composer: Composer, commit: str, parent: str, onto: str, message: str) -> Candidate | Conflict:
    entries: dict[str, Entry | None] = {}
    failed: list[str] = []
    for change in composer.objects.diff(parent, commit):
        if not _is_of_task_files(composer, change):
            return _explain(commit, f"it changes {change.path}, which is not a task file")
        entry = _apply_change(composer, change, composer.objects.find_entry(onto, change.path))
        if entry is None:
            failed.append(change.path)
        entries[change.path] = entry
    if failed:
        theirs = list_commits(composer.git, commit, onto, failed)
        said = tuple(f"{path} was changed on the new base in the same lines" for path in failed)
        # The new base is the head side of the conflict; the commit to recreate is the branch side.
        return Conflict(tuple(sorted(failed)), said, theirs, list_commits(composer.git, onto, commit, failed))
    return composer.commit(composer.objects.put_entries(onto, entries), [onto], message)


def _is_of_task_files(composer: Composer, change: Change) -> bool:
    """Whether a change adds or edits a task file; Coordinator's commits without a branch do nothing else."""
    new = change.new
    return new is not None and composer.reader.covers(change.path) and composer.reader.is_task_file(change.path, new)


def _apply_change(composer: Composer, change: Change, found: Entry | None) -> Entry | None:
    """Return the entry for the path on the new base, or None if the change does not apply there."""
    path, old, new = change
    if found in (old, new):
        return new
    if old is None or new is None or found is None or not found.is_file or not old.is_file:
        return None
    data = _merge_file(composer, found, old, new)
    if data is None:
        return None
    task, faults = parse_task(data, path)
    if task is None or any(not fault.is_warning for fault in faults):
        return None  # A clean merge can still define the same thing twice.
    return Entry(found.mode, found.name, composer.objects.write_blob(data))


def _merge_file(composer: Composer, found: Entry, old: Entry, new: Entry) -> bytes | None:
    """Return the three-way merge of one file, or None if it conflicts."""
    with private_directory() as directory:
        names = [directory / name for name in ("base", "before", "ours")]
        for name, entry in zip(names, (found, old, new), strict=True):
            name.write_bytes(composer.objects.read(entry.oid))
        every = range(_MERGE_FILE_FAILED)
        result = composer.git.run("merge-file", "-p", "--", *(str(name) for name in names), accept=every)
    return result.stdout if result.status == 0 else None


def _explain(commit: str, why: str) -> Conflict:
    return Conflict((), (f"{commit[:10]} cannot be recreated on the new base: {why}.",))
