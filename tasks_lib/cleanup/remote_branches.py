"""Decides which branches on the remote belong to landed nodes, and deletes them without losing a commit."""

from collections.abc import Mapping

from tasks_lib.cleanup.landed_nodes import HISTORY
from tasks_lib.errors import RemoteError
from tasks_lib.git.commits.commit_search import is_contained
from tasks_lib.git.commits.landed_commits import find_landed
from tasks_lib.git.publish.local_branch import Pending, publish
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.publish.remote_branch import Remote
from tasks_lib.git.ref_names import branch_ref
from tasks_lib.git.repository_lock import admin_lock
from tasks_lib.graph.task_graph import Graph
from tasks_lib.naming import name_branches
from tasks_lib.project.loading import Project
from tasks_lib.settings.schema import Settings


def sweep(remote: Remote, head: Head, graph: Graph, settings: Settings, branches: Mapping[str, str]) -> list[str]:
    """Delete branches that agents pushed for nodes that have landed on the remote; return a line for each that stays.

    `branches` are those of the remote. A branch with commits that did not land stays.
    """
    found = find_landed_branches(remote, head, graph, settings, branches)
    base = head.base()
    ours = {name: commit for name, commit in found.items() if is_contained(remote.git, commit, base)}
    lines = [
        f"{remote.name} keeps {name}, because it has commits that did not land. To delete it anyway: "
        f"git push {remote.name} --delete {branch_ref(name)}"
        for name in found.keys() - ours.keys()
    ]
    refused = remote.delete(ours) if ours else {}
    lines += [f"{remote.name} still has {name}, which has landed: {why}" for name, why in refused.items()]
    return sorted(lines)


def clean_up_remote(project: Project) -> list[str]:
    """Clean up after a kill that followed the last push: branches on the remote, and a local branch that is behind.

    Returns a line for each thing that could not be done. Call it when no run is in progress.
    """
    remote, repository = project.open_remote(), project.repository
    if remote is None:
        return []
    head = project.open_head()
    try:
        lines = sweep(remote, head, project.graph, project.settings, remote.list_branches())
    except RemoteError as error:
        lines = [str(error)]
    if repository.branch_head(project.target):
        found = publish(repository.git, project.target, head.base(), admin_lock(repository))
        lines += [describe_local_branch_behind(project, found.reason)] if isinstance(found, Pending) else []
    return lines


def describe_local_branch_behind(project: Project, reason: str) -> str:
    """Return the message for a local branch that could not be updated."""
    return f"The local {project.target} was not updated: {reason} {project.settings.land.remote} has everything."


def find_landed_branches(
    remote: Remote, head: Head, graph: Graph, settings: Settings, branches: Mapping[str, str]
) -> dict[str, str]:
    """Return those of `branches` with the names of nodes' branches that landed on the remote, with their commits."""
    names = name_branches(graph.tasks.values(), settings.branch_prefix, target=remote.target)
    candidates = {
        task_id: names[task_id]
        for task_id, task in graph.tasks.items()
        if task.is_completed and names[task_id] in branches and names[task_id] != remote.target
    }
    if not candidates:
        return {}  # The usual case; it avoids reading the history.
    landed = find_landed(remote.git, head.base(), HISTORY)
    return {name: branches[name] for task_id, name in candidates.items() if task_id in landed}
