"""Detects that somebody else has completed a node that is running here, so that nothing lands twice."""

from tasks_lib.git.commits.landed_commits import find_landed
from tasks_lib.runtime.node_registry import MAX_HISTORY
from tasks_lib.runtime.run_context import Run


def find_completing_commit(run: Run, task_id: str, head: str) -> str:
    """Return the commit that completed a node on `head`, or `head` if it is not found."""
    return find_landed(run.git.repository.git, head, MAX_HISTORY).get(task_id, head)


def find_completed_elsewhere(run: Run, task_id: str) -> str:
    """Return the commit with which somebody else has completed a node that is open here, "" if nobody has."""
    head = run.git.head.last_seen()
    return find_completing_commit(run, task_id, head) if is_completed_at(run, task_id, head) else ""


def is_completed_at(run: Run, task_id: str, commit: str) -> bool:
    """Whether a node is completed according to the task files at `commit`."""
    task = run.git.reader.read(commit).find(task_id)
    return task is not None and task.is_completed


def end_completed_elsewhere_nodes(run: Run) -> None:
    """End the sessions of nodes that are completed on the base; their work is kept. Call on the event loop."""
    tasks = run.git.reader.read(run.git.head.last_seen_base())
    for node_id in run.requests.open_nodes():
        if (task := tasks.find(node_id)) and task.is_completed:
            run.requests.end_completed_elsewhere(node_id)


def describe_completed_elsewhere(task_id: str, commit: str) -> str:
    """Describe to the user a node that ran here although somebody else has completed it."""
    return f"{task_id} was completed by someone else ({commit[:12]}); the work done here is kept."
