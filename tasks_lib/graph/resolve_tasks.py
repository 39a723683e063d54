"""Decides which resolve task a person completes so that a blocked node can run again."""

from collections.abc import Mapping

from tasks_lib.errors import Fault, InputError
from tasks_lib.model import Status, Task
from tasks_lib.naming import is_resolve_task, show, show_some
from tasks_lib.suggestions import suggest

Tasks = Mapping[str, Task]


def find_resolve_task(tasks: Tasks, name: str) -> Task:
    """Return the open resolve task of the node `name`, or the resolve task that has this id itself.

    `tasks` are those at the head, by id. Raises InputError with the reason and what to do if there is not exactly one.
    """
    task = tasks.get(name)
    if task is None:
        raise InputError([_describe_unknown(tasks, name)])
    if _is_for_resolving(task, tasks):
        return _require_open(task, tasks)
    found = [tasks[one] for one in task.depends_on if is_resolve_task(one) and one in tasks]
    opened = [one for one in found if not one.is_completed and (task.status is Status.BLOCKED or one.is_human)]
    if len(opened) == 1:
        return opened[0]
    raise InputError([_describe_several(task, opened) if opened else _describe_none(task, found)])


def list_waiting(tasks: Tasks, resolve_id: str) -> tuple[str, ...]:
    """Return the ids of the open nodes that depend on the resolve task `resolve_id`, sorted."""
    return tuple(sorted(one.id for one in tasks.values() if resolve_id in one.depends_on and not one.is_completed))


def _is_for_resolving(task: Task, tasks: Tasks) -> bool:
    """Whether a person may complete `task` by its own id: any other node called `resolve-…` is work for an agent."""
    if not is_resolve_task(task.id):
        return False
    return task.is_human or any(tasks[one].status is Status.BLOCKED for one in list_waiting(tasks, task.id))


def _require_open(task: Task, tasks: Tasks) -> Task:
    if not task.is_completed:
        return task
    waiting = list_waiting(tasks, task.id)
    then = f"; {show_some(waiting)} can run: start a run if none is in progress" if waiting else ""
    line = task.lines.get("status", 0)
    raise InputError([Fault(task.path, line, f"{task.id} is already completed, so nothing was changed{then}")])


def _describe_unknown(tasks: Tasks, name: str) -> str:
    blocked = sorted(one.id for one in tasks.values() if one.status is Status.BLOCKED)
    named = f"; blocked nodes: {show_some(blocked, 10)}" if blocked else "; no node is blocked"
    return f'"{show(name)}" is not a task{suggest(name, tasks) or named}'


def _describe_several(task: Task, opened: list[Task]) -> str:
    places = ", ".join(f"{one.id} ({one.path})" for one in opened)
    return f"{task.id} has several open resolve files; name the one that is resolved: {places}"


def _describe_none(task: Task, found: list[Task]) -> Fault:
    line = task.lines.get("status", 0)
    if task.is_completed:
        return Fault(task.path, line, f"{task.id} is completed, so there is nothing to resolve")
    if task.status is not Status.BLOCKED:
        status = task.status.value
        said = f"{task.id} is not blocked, its status is {status}; `coordinator plan` shows what it waits for"
        return Fault(task.path, line, said)
    if found:
        resolved = show_some([one.id for one in found])
        said = f"{resolved} is already completed, so {task.id} can run: start a run if none is in progress"
        return Fault(task.path, line, said)
    said = f"{task.id} is blocked without a resolve file; set `status: pending` here and commit that"
    return Fault(task.path, line, said)
