"""Says for commands that read one node why there is nothing to read: it waits, has ended, or does not exist."""

from collections.abc import Mapping

from tasks_lib.errors import InputError
from tasks_lib.git.repository import Repository
from tasks_lib.graph.run_plan import Plan
from tasks_lib.project.loading import load_project
from tasks_lib.runtime.absent_nodes import explain_absence
from tasks_lib.runtime.last_run import read_last_run
from tasks_lib.runtime.status_board import NodeView
from tasks_lib.suggestions import suggest


def explain_node(repository: Repository, node_id: str) -> str:
    """Say in one sentence why nobody works on `node_id`, by the head and what the current or last run wrote."""
    last = read_last_run(repository.state_dir)
    nodes: Mapping[str, NodeView] = last.view.nodes if last.view else {}
    working = [node.id for node in nodes.values() if node.is_running] if last.holder else None
    try:
        project = load_project(repository.top)
    except InputError:  # A run continues with the graph that it has.
        if node_id in nodes:
            return f"{node_id} has not started yet"
        return f'"{node_id}" is not a node of the last run{suggest(node_id, nodes)}'
    only = last.view.only if last.view and last.holder else ()
    plan = Plan(project.graph, [one for one in only if one in project.graph.tasks])
    return explain_absence(node_id, plan, nodes, working)
