"""Finds what nodes have used before this run, where that counts toward the budgets of nodes that spawned them."""

from collections.abc import Sequence

from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.commits.commit_messages import SPENT
from tasks_lib.runtime.run_context import Run
from tasks_lib.session.attempt_record import Record, Spending
from tasks_lib.session.spending import read_spent


async def count_earlier_spending(run: Run, left: Sequence[Record]) -> None:
    """Count what open nodes with the records `left` have used, and landed ones that have spawned or were spawned."""
    if not run.budgets.limits_nodes:
        return
    for record in left:
        run.budgets.note_node(record.task_id, record.spending)
    tasks = run.nodes.graph.tasks
    related = {one for task in tasks.values() if task.spawned_by in tasks for one in (task.id, task.spawned_by)}
    for task_id in related:
        if tasks[task_id].is_completed:
            run.budgets.note_node(task_id, Spending(node=read_spent(await run.git.call(_read_trailer, run, task_id))))


def _read_trailer(run: Run, task_id: str) -> str:
    """The trailer that says what a node had used when it landed, "" if there is none. Blocking."""
    commit = run.nodes.landed(task_id)
    return read_commit(run.git.objects, commit).trailers.get(SPENT, "") if commit else ""
