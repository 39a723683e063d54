"""Says in one sentence why nobody works on a node: it waits, has ended, has another id by now, or does not exist."""

from collections.abc import Collection, Mapping

from tasks_lib.graph.run_plan import Plan
from tasks_lib.model import OutcomeName
from tasks_lib.naming import show, show_some
from tasks_lib.runtime.status_board import NodeView
from tasks_lib.suggestions import suggest

RUNNING_SHOWN = 10


def explain_absence(
    node_id: str, plan: Plan, nodes: Mapping[str, NodeView], working: Collection[str] | None = None
) -> str:
    """Say why nobody works on `node_id`, which is in progress neither in `plan` nor in `nodes`, those of a run.

    `working` are the nodes in progress, which are named if no node has this id; None without a run.
    """
    task, seen = plan.graph.tasks.get(node_id), nodes.get(node_id)
    if task is None:
        if name := find_new_name(node_id, nodes, plan.graph.tasks):
            return describe_new_name(node_id, name)
        return _describe_unknown(node_id, [*plan.graph.tasks, *nodes], working)
    if task.is_completed:
        return f"{node_id} is completed already"
    if seen and seen.outcome and seen.outcome is not OutcomeName.INTERRUPTED:
        because = f": {seen.reason}" if seen.reason else ""
        return f"{node_id} has ended as {seen.outcome}{because}"
    wait = plan.waits().get(node_id, "")
    if not wait:
        needs = "it is ready and waits for a free session" if working is not None else "the next run starts it"
        return f"{node_id} has not started yet: {needs}"
    return f"{node_id} has not started yet: it {wait}"


def find_new_name(node_id: str, nodes: Mapping[str, NodeView], known: Collection[str]) -> str:
    """Return the id that the node `node_id` got during the run of `nodes`, if that is `known`; else ""."""
    name, seen = node_id, {node_id}
    while name not in known and name in nodes and nodes[name].renamed not in seen:
        name = nodes[name].renamed
        seen.add(name)
    return name if name in known and name != node_id else ""


def describe_new_name(node_id: str, name: str) -> str:
    """Say in a sentence that the node `node_id` was renamed to `name`."""
    return f"{node_id} was renamed to {name}: the id in its task file was changed during the run; use that one"


def _describe_unknown(node_id: str, known: Collection[str], working: Collection[str] | None) -> str:
    hint = suggest(node_id, dict.fromkeys(known))
    if not hint and working is not None:
        hint = f"; running nodes: {show_some(sorted(working), RUNNING_SHOWN) or 'none'}"
    return f'"{show(node_id)}" is not a node of this repository{hint}'
