"""Describes the nodes of a repository to a model: briefly, and by session as well as by id."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.cli.commands.repository_snapshot import Snapshot, read_snapshot
from flows.cli.commands.status import RepositoryStatus, find_status
from tasks_lib.errors import InputError
from tasks_lib.graph.spawned_tasks import Tasks
from tasks_lib.naming import show
from tasks_lib.runtime.status_board import NodeView
from tasks_lib.suggestions import suggest


def read_status(path: Path) -> RepositoryStatus:
    """Read the state of the repository at `path`. Raises InputError naming the faults of its files, if it has any."""
    found = find_status(read_snapshot(path))
    if found.snapshot.faults:
        raise InputError(found.snapshot.faults)
    return found


def get_tasks(status: RepositoryStatus) -> Tasks:
    return status.snapshot.project.graph.tasks if status.snapshot.project else {}


def find_target(status: RepositoryStatus, name: str) -> NodeView:
    """Find the node with the session or the id `name`. Raises InputError if there is none."""
    for node in status.nodes:
        if name in (node.id, node.session):
            return node
    ids = [node.id for node in status.nodes]
    raise InputError([f'"{show(name)}" is neither the id of a task nor a session of this run{suggest(name, ids)}'])


def has_ended(node: NodeView) -> bool:
    return bool(node.outcome)


def describe_node(node: NodeView, snapshot: Snapshot, tasks: Tasks) -> dict[str, Any]:
    """Describe one node; what is empty is left out."""
    task = tasks.get(node.id)
    top = snapshot.repository.worktrees_dir
    branch = Path(node.worktree).relative_to(top).as_posix() if _is_below(node.worktree, top) else ""
    said: Mapping[str, Any] = {
        "id": node.id,
        "name": node.name,
        "state": str(node.outcome or node.stage or "waiting"),
        "has_ended": has_ended(node),
        "session": node.session,
        "branch": branch,
        "worktree": node.worktree,
        "spawned_by": task.spawned_by if task else "",
        "depends_on": list(task.depends_on) if task else [],
        "detail": node.reason or node.detail,
        "activity": node.activity if node.is_running else "",
        "attempt": node.attempt,
        "tokens": node.tokens,
        "cost": node.cost,
        "commit": node.commit,
    }
    return {key: value for key, value in said.items() if value or isinstance(value, bool)}


def _is_below(place: str, top: Path) -> bool:
    return bool(place) and Path(place).is_relative_to(top)


def describe_nodes(status: RepositoryStatus, nodes: Sequence[NodeView]) -> dict[str, Any]:
    """Describe these nodes, how many there are of each state, and whether a run is in progress."""
    tasks = get_tasks(status)
    listed = [describe_node(node, status.snapshot, tasks) for node in nodes]
    states = [one["state"] for one in listed]
    view = status.snapshot.view
    return {
        "is_run_in_progress": status.snapshot.is_alive,
        "run": view.run if view else "",
        "counts": {state: states.count(state) for state in dict.fromkeys(states)},
        "nodes": listed,
    }
