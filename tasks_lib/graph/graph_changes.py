"""Says how two graphs of a run differ, and which nodes that may affect."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Task


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new graph changed, as ids in its topological order (`removed`: in that of the old graph).

    `completed` are nodes that became completed, `reopened` nodes that no longer are, `changed` nodes that differ in
    anything else, `unblocked` nodes that may run again.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    completed: tuple[str, ...] = ()
    unblocked: tuple[str, ...] = ()
    reopened: tuple[str, ...] = ()


def find_open(task: Task, graph: Graph) -> list[str]:
    """The prerequisites of `task` that are not completed, each once."""
    return [task_id for task_id in dict.fromkeys(task.depends_on) if not graph.tasks[task_id].is_completed]


def find_changed(before: Graph, after: Graph) -> set[str]:
    """The ids that only one of the graphs contains, or whose tasks differ."""
    old, new = before.tasks, after.tasks
    found = {i for i, task in new.items() if (known := old.get(i)) is not task and known != task}
    return found | (old.keys() - new.keys())


def find_renamed(before: Graph, after: Graph) -> dict[str, str]:
    """Map each id that only `before` has to the id that is in its task file now, if that id is new."""
    ids = {task.path: task_id for task_id, task in after.tasks.items() if task_id not in before.tasks}
    gone = (task for task_id, task in before.tasks.items() if task_id not in after.tasks)
    return {task.id: ids[task.path] for task in gone if task.path in ids}


def add_dependents(changed: Iterable[str], before: Graph, after: Graph) -> set[str]:
    """`changed`, and their direct dependents in either graph."""
    found = set(changed)
    for task_id in tuple(found):
        for graph in (before, after):
            found.update(graph.dependents(task_id) if task_id in graph.tasks else ())
    return found


def moves_ranks(changed: Iterable[str], before: Graph, after: Graph) -> bool:
    """Whether the rank of an open node may have changed between two graphs with the same edges.

    Paths of open nodes never lead through completed ones. So a node that lands after all of its prerequisites changes
    no rank but its own, which is no longer used.
    """
    for task_id in changed:
        old, new = before.tasks[task_id], after.tasks[task_id]
        is_landing = new.is_completed and not find_open(new, after)
        if old.cost != new.cost or (old.is_completed != new.is_completed and not is_landing):
            return True
    return False


def compare(before: Graph, after: Graph, changed: Collection[str], unblocked: Collection[str]) -> Changes:
    """Say how two graphs differ, given the ids that do; also puts `unblocked` in order."""
    old, new = before.tasks, after.tasks
    kept = [i for i in after.order() if i in changed and i in old]
    added = tuple(i for i in after.order() if i not in old)
    completed = {i for i in (*kept, *added) if new[i].is_completed and not (i in old and old[i].is_completed)}
    return Changes(
        added=added,
        removed=tuple(i for i in before.order() if i not in new),
        changed=tuple(i for i in kept if old[i].is_completed is new[i].is_completed),
        completed=tuple(i for i in after.order() if i in completed),
        unblocked=tuple(i for i in after.order() if i in unblocked),
        reopened=tuple(i for i in kept if old[i].is_completed and not new[i].is_completed),
    )
