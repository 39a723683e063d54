"""Completes a resolve task on the head for a person: through a run's merge queue, or directly while there is no run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tasks_lib.errors import Fault, InputError
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.compose.commit_composer import Candidate, Composer
from tasks_lib.git.inspection.checkout_files import list_uncommitted
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock
from tasks_lib.graph.resolve_tasks import find_resolve_task, list_waiting
from tasks_lib.landing.commits_without_run import commit_without_run
from tasks_lib.landing.merge_queue import MergeQueue
from tasks_lib.model import PersonsWord, Task
from tasks_lib.naming import show_some
from tasks_lib.project.loading import Project
from tasks_lib.runtime.run_context import Run
from tasks_lib.taskfile.parsing import set_word


@dataclass(frozen=True, slots=True)
class Resolution:
    """The resolve task `task_id` and the nodes that wait for it, once a person has resolved it.

    `commit` completes the task, "" while that commit is not made yet. `pending` is why publishing waits, "" if it does
    not or if a run publishes. `notes` are further sentences for the user.
    """

    task_id: str
    waiting: tuple[str, ...]
    commit: str = ""
    pending: str = ""
    notes: tuple[str, ...] = ()


def describe(resolution: Resolution) -> str:
    """Say in one sentence what was resolved in a run, or will be while there is no commit yet, and what happens now."""
    commit = f" with {resolution.commit[:12]}" if resolution.commit else ""
    completed = f"{resolution.task_id} {'was' if commit else 'will be'} completed{commit}"
    nodes = show_some(resolution.waiting)
    then = f"; then {nodes} can run again in this run, or in the next if it is ending" if nodes else ""
    return f"{completed}{then}"


def describe_without_run(resolution: Resolution, project: Project) -> str:
    """Say in one line what was resolved while no run was in progress, whether it is published, and what to do now."""
    nodes = show_some(resolution.waiting)
    said = f"{resolution.task_id} was completed on {project.base_name} with {resolution.commit[:12]}"
    if resolution.pending:
        why = f"{project.base_name} has not been updated yet: {resolution.pending.rstrip('.')}"
        waits = f"the commit waits at {project.open_head().refs.queue_ref}, and the next `coordinator run` publishes it"
        said = f"{resolution.task_id} was completed with {resolution.commit[:12]}, but {why}; {waits}"
    now = f"To run {nodes} again: `coordinator run`" if nodes else "No open node waits for it"
    return " ".join((f"{said}.", *resolution.notes, f"{now}."))


def find_resolution(
    repository: Repository, reader: TaskReader, head: str, name: str, word: PersonsWord
) -> tuple[Task, Resolution]:
    """Find the open resolve task for `name`, the id of a blocked node or of a resolve task, at the commit `head`.

    Raises InputError that says what to do if there is not exactly one, or if a file that is to change has uncommitted
    changes in the checkout: publishing the commit would have to wait for them.
    """
    tasks = {task.id: task for task in reader.read(head).tasks}
    task = find_resolve_task(tasks, name)
    _require_unchanged(repository, task)
    if _is_assigned(word):
        _require_unchanged(repository, _find_assigned(tasks, task, name))
    return task, Resolution(task.id, list_waiting(tasks, task.id))


def _is_assigned(word: PersonsWord) -> bool:
    return bool(word.role or word.model)


def _find_assigned(tasks: Mapping[str, Task], resolve: Task, name: str) -> Task:
    """The node that gets another role or model: the one that was named, or that waits for the resolve task."""
    waiting = list_waiting(tasks, resolve.id)
    if name != resolve.id or len(waiting) == 1:
        return tasks[name if name != resolve.id else waiting[0]]
    raise InputError([f"{show_some(waiting) or 'no node'} waits for {resolve.id}; name the node to reassign"])


def _compose(
    composer: Composer, repository: Repository, head: str, name: str, word: PersonsWord, run: str
) -> tuple[Candidate, Resolution]:
    """Make the commit that resolves what blocks `name`, and gives the node the role and model of `word`."""
    task, resolution = find_resolution(repository, composer.reader, head, name, word)
    if not _is_assigned(word):
        return composer.compose_resolution(task, head, guidance=word.text, run=run), resolution
    tasks = {one.id: one for one in composer.reader.read(head).tasks}
    node = _find_assigned(tasks, task, name)

    def assign(text: str) -> str:
        for key, value in (("role", word.role), ("model", word.model)):
            text = set_word(text, key, value) if value else text
        return text

    return composer.compose_resolution(task, head, guidance=word.text, run=run, edited=node, edit=assign), resolution


async def find_resolution_in_run(run: Run, name: str, word: PersonsWord) -> Resolution:
    """Do what `find_resolution` does, at the head of `run`."""
    git = run.git
    _, found = await git.call(find_resolution, git.repository, git.reader, git.head.last_seen(), name, word)
    return found


async def resolve_in_run(run: Run, merge_queue: MergeQueue, name: str, word: PersonsWord) -> Resolution:
    """Complete the resolve task for `name` through the merge queue of `run`, which publishes it and runs the nodes.

    `word` is what the person says about it. Waits while a merge is being verified. Raises InputError as
    `find_resolution` does.
    """
    found: list[Resolution] = []

    def compose(head: str) -> Candidate:
        candidate, resolution = _compose(merge_queue.composer, run.git.repository, head, name, word, run.id)
        found.append(resolution)
        return candidate

    commit = await merge_queue.commit_to_head(compose)
    return Resolution(found[-1].task_id, found[-1].waiting, commit)


def resolve_without_run(project: Project, lock: HeldRunLock, name: str, word: PersonsWord) -> Resolution:
    """Complete the resolve task for `name` on the head, and publish the head as a run would; merges nothing.

    Raises InputError as `find_resolution` does, or if a run has to look at the repository first.
    """
    found: list[Resolution] = []

    def compose(composer: Composer, at: str) -> Candidate:
        candidate, resolution = _compose(composer, project.repository, at, name, word, "")
        found.append(resolution)
        return candidate

    made = commit_without_run(project, lock, compose)
    return replace(found[-1], commit=made.commit, pending=made.pending, notes=made.notes)


def _require_unchanged(repository: Repository, task: Task) -> None:
    if repository.is_bare or not list_uncommitted(repository.git, task.path):
        return
    how = f"commit them, or discard them (`git restore --staged --worktree {task.path}`), and try again"
    raise InputError([Fault(task.path, 0, f"has uncommitted changes in {repository.top}; {how}")])
