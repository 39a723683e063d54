"""Commits a task that a session or another program spawned: through a run's merge queue, or while there is no run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tasks_lib.errors import Fault, InputError
from tasks_lib.git.commits.commit_messages import PARENT, RUN, SESSION, TASK
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.compose.commit_composer import Candidate, Composer, NewTask
from tasks_lib.git.inspection.checkout_files import list_uncommitted
from tasks_lib.git.repository_lock import HeldRunLock
from tasks_lib.graph.spawned_tasks import find_known_task_faults, find_limit_faults, find_new_task_faults
from tasks_lib.graph.task_graph import check_graph
from tasks_lib.landing.commits_without_run import commit_without_run
from tasks_lib.landing.merge_queue import MergeQueue
from tasks_lib.model import Task
from tasks_lib.project.loading import Project
from tasks_lib.runtime.run_context import Run
from tasks_lib.taskfile.parsing import encode, set_spawner, sketch_task

UNNAMED = "spawned.md"
NO_TASK = "is not a task file: it has no front matter between two `---` lines, with at least `id` and `name`"


@dataclass(frozen=True, slots=True)
class SpawnOrder:
    """What is to be spawned: the `text` of a new task file, or the id `task_id` of a task that exists.

    `spawner` is the task whose `session` asks for it, "" if no session does.
    """

    text: str = ""
    task_id: str = ""
    spawner: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class SpawnedTask:
    """The task `task_id` was spawned with `commit`, "" if nothing had to be committed.

    `pending` is why publishing it waits, "" if it does not or if a run publishes; `notes` are further sentences for the
    user.
    """

    task_id: str
    commit: str = ""
    pending: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Change:
    """What to commit for `task`: its new file `added`, or else an edit of the file it has."""

    task: Task
    added: NewTask | None = None


def describe_spawned(spawned: SpawnedTask) -> str:
    """Say in one sentence what was spawned in a run."""
    if not spawned.commit:
        return f"{spawned.task_id} is a task of this repository already"
    return f"{spawned.task_id} was added with {spawned.commit[:12]}; it starts when what it depends on is completed"


async def spawn_in_run(run: Run, merge_queue: MergeQueue, order: SpawnOrder) -> SpawnedTask:
    """Commit what `order` asks for to the head of `run`, which then works on it.

    Waits while a merge is being verified. Raises InputError with every fault; nothing is committed then.
    """
    checker = _SpawnCheck(run.project, order)
    tasks = await run.git.call(_read_tasks, run.git.reader, run.git.head.last_seen())
    if not await run.git.call(checker.find_change, tasks):
        return SpawnedTask(checker.task_id)
    commit = await merge_queue.commit_to_head(lambda head: checker.compose(merge_queue.composer, head, run.id))
    return SpawnedTask(checker.task_id, commit)


def spawn_without_run(project: Project, lock: HeldRunLock, order: SpawnOrder) -> SpawnedTask:
    """Commit what `order` asks for to the head, and publish it. Raises InputError with every fault."""
    checker = _SpawnCheck(project, order)
    if not checker.find_change(project.graph.tasks):
        return SpawnedTask(checker.task_id)
    made = commit_without_run(project, lock, lambda composer, head: checker.compose(composer, head, ""))
    return SpawnedTask(checker.task_id, made.commit, made.pending, made.notes)


def _read_tasks(reader: TaskReader, commit: str) -> Mapping[str, Task]:
    return {task.id: task for task in reader.read(commit).tasks}


class _SpawnCheck:
    """Checks one order against the tasks at the head; `task_id` is that of the task once it was checked."""

    def __init__(self, project: Project, order: SpawnOrder) -> None:
        self._project = project
        self._order = order
        self.task_id: str = order.task_id

    def compose(self, composer: Composer, head: str, run: str) -> Candidate:
        """Make the commit on `head`. Raises InputError with every fault, or if there is nothing to commit."""
        change, order = self.find_change(_read_tasks(composer.reader, head)), self._order
        if change is None:
            raise InputError([f"{self.task_id} was spawned in the meantime"])
        task = change.task
        subject = f"spawned({task.id}): {task.name}"
        trailers = {TASK: task.id, PARENT: order.spawner, RUN: run, SESSION: order.session}
        if change.added:
            return composer.compose_addition(change.added, head, subject, trailers)
        return composer.compose_edit(task, head, self._mark, subject, trailers)

    def find_change(self, tasks: Mapping[str, Task]) -> _Change | None:
        """Return what has to be committed, None if nothing. Raises InputError with every fault. Blocking."""
        spawner = self._order.spawner
        new = self._read_new() if self._order.text else None
        known = tasks.get(new.id if new else self._order.task_id)
        if known and spawner and known.spawned_by == spawner:
            self.task_id = known.id
            return None  # A session that was killed and continues asks again.
        faults = list[Fault | str]()
        if spawner:
            faults += find_limit_faults(tasks, spawner, self._project.settings.spawn.to_limits())
        if new:
            faults += self._find_new_faults(new, tasks)
        else:
            faults += find_known_task_faults(tasks, self._order.task_id, spawner)
        task = new or known
        if task and not faults and (new or spawner):
            faults += self._find_checkout_faults(task)
        if faults or not task:
            raise InputError(faults)
        self.task_id = task.id
        if new:
            return _Change(new, NewTask(new.id, new.path, self._mark(self._order.text)))
        return _Change(task) if spawner else None

    def _mark(self, text: str) -> str:
        """Say in a task file who spawns the task, if a session does and it does not say so yet."""
        task, _ = sketch_task(encode(text), UNNAMED)
        return set_spawner(text, self._order.spawner) if self._order.spawner and task and not task.spawned_by else text

    def _read_new(self) -> Task:
        """Read the new task as far as it can be read. Raises InputError if not even its id can be."""
        data, folder = encode(self._order.text), self._project.tasks_dir
        sketch, faults = sketch_task(data, f"{folder}/{UNNAMED}")
        if sketch is None:
            raise InputError([fault for fault in faults if not fault.is_warning] or [f"the text {NO_TASK}"])
        task, _ = sketch_task(data, f"{folder}/{sketch.id}.md")
        return task or sketch

    def _find_new_faults(self, task: Task, tasks: Mapping[str, Task]) -> Iterator[Fault | str]:
        _, faults = sketch_task(encode(self._order.text), task.path)
        yield from (fault for fault in faults if not fault.is_warning)
        yield from find_new_task_faults(task, self._order.spawner)
        before = set(check_graph(tasks.values()))
        yield from (one for one in check_graph([*tasks.values(), task]) if not one.is_warning and one not in before)

    def _find_checkout_faults(self, task: Task) -> Iterator[Fault]:
        """What in the checkout would keep the commit from being published."""
        repository = self._project.repository
        if not repository.is_bare and list_uncommitted(repository.git, task.path):
            how = "commit it, or move it away, and try again"
            yield Fault(task.path, 0, f"has uncommitted changes in {repository.top}; {how}")
