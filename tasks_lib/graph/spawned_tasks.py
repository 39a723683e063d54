"""Decides which tasks a session has spawned, and whether it may spawn another one.

A task that a session spawned is the child of the session's task: its file says so with `spawned_by`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tasks_lib.errors import Fault
from tasks_lib.model import Status, Task
from tasks_lib.naming import show
from tasks_lib.suggestions import suggest

Tasks = Mapping[str, Task]
KEY = "spawned_by"


@dataclass(frozen=True, slots=True)
class SpawnLimits:
    """How deep sessions may spawn (if `is_enabled`), and how many tasks may be below one that nobody spawned."""

    is_enabled: bool = False
    depth: int = 0
    tasks: int = 0


def list_spawners(tasks: Tasks, task_id: str) -> tuple[str, ...]:
    """The ids of the tasks above `task_id`: the one that spawned it, the one that spawned that one, and so on."""
    found: list[str] = []
    task = tasks.get(task_id)
    # A person may have edited a circle into the files.
    while task and task.spawned_by in tasks and task.spawned_by not in (task_id, *found):
        found.append(task.spawned_by)
        task = tasks[task.spawned_by]
    return tuple(found)


def list_spawned(tasks: Tasks, task_id: str) -> tuple[str, ...]:
    """The ids of the tasks that `task_id` spawned, directly or not, without itself, sorted."""
    return tuple(sorted(one.id for one in tasks.values() if one.spawned_by and task_id in list_spawners(tasks, one.id)))


def find_limit_faults(tasks: Tasks, spawner: str, limits: SpawnLimits) -> Iterator[str]:
    """Say why a session of `spawner` may not spawn one more task; nothing if it may."""
    if not limits.is_enabled:
        yield "sessions may not spawn tasks here; `spawn.enabled: true` in coordinator.yaml allows it"
        return
    if spawner not in tasks:
        yield f'no task file at the head has the id "{show(spawner)}", so its session cannot spawn tasks'
        return
    above = list_spawners(tasks, spawner)
    if (depth := len(above) + 1) > limits.depth:
        yield f"{spawner} was itself spawned {depth - 1} deep; spawn.max_depth is {limits.depth}"
    root = above[-1] if above else spawner
    if (count := len(list_spawned(tasks, root))) >= limits.tasks:
        yield f"{root} and the tasks below it have spawned {count} tasks; spawn.max_tasks is {limits.tasks}"


def find_new_task_faults(task: Task, spawner: str) -> Iterator[Fault]:
    """Say what else is wrong with a new task file that a session of `spawner` ("" for a person) gave."""
    if task.status is not Status.PENDING:
        yield Fault(task.path, task.lines.get("status", 0), f"status is {task.status}; a new task is pending")
    if task.spawned_by and task.spawned_by != spawner:
        yield Fault(task.path, task.lines.get(KEY, 0), f"{KEY} is written by coordinator; remove it")


def find_known_task_faults(tasks: Tasks, task_id: str, spawner: str) -> Iterator[Fault | str]:
    """Say why a session of `spawner` ("" for a person) cannot spawn the task `task_id`, which should have a file."""
    task = tasks.get(task_id)
    if task is None:
        yield f'no task file at the head has the id "{show(task_id)}"{suggest(task_id, tasks)}'
        return
    if task.is_completed:
        yield Fault(task.path, task.lines.get("status", 0), f"{task_id} is completed")
    if task.is_human:
        yield Fault(task.path, task.lines.get("assignee", 0), f"{task_id} is for a person (assignee: human)")
    if not spawner:
        return
    if task_id == spawner or task_id in list_spawners(tasks, spawner):
        yield f"{spawner} cannot spawn {task_id}, which it belongs to"
    elif task.spawned_by and task.spawned_by != spawner:
        yield Fault(task.path, task.lines.get(KEY, 0), f"{task_id} was spawned by {task.spawned_by}")
