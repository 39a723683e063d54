"""Commits changes of a node's task file and follow-up tasks to the head, which no agent makes."""

from collections.abc import Callable, Collection, Sequence

from tasks_lib.errors import InputError
from tasks_lib.git.commits.commit_messages import ATTEMPT, RUN, SESSION
from tasks_lib.git.compose.commit_composer import Candidate, NewTask
from tasks_lib.landing.added_tasks import find_new_faults
from tasks_lib.model import Task
from tasks_lib.naming import name_follow_ups
from tasks_lib.node.attempt_context import AttemptContext


def name_follow_up(task: Task, known: Collection[str]) -> str:
    """The id of a new follow-up task of `task`, which none of `known` has."""
    number = 1
    while (task_id := f"{name_follow_ups(task.id)}{number}") in known:
        number += 1
    return task_id


def place_task(context: AttemptContext, task_id: str, text: str) -> NewTask:
    """The new task file of `task_id`, in the folder of task files."""
    return NewTask(task_id, f"{context.run.project.tasks_dir}/{task_id}.md", text)


async def commit_task_edit(
    context: AttemptContext, edit: Callable[[str], str], subject: str, added: Sequence[NewTask]
) -> None:
    """Commit a change of the task file to the head; raises InputError if the graph would not be valid with it."""
    run, attempt = context.run, context.record.attempt
    task = run.nodes.graph.tasks.get(context.task.id, context.task)
    trailers = {ATTEMPT: str(attempt.number), RUN: run.id, SESSION: attempt.session}

    def compose(head: str) -> Candidate:
        candidate = context.merge_queue.composer.compose_edit(task, head, edit, subject, trailers, added)
        if faults := find_new_faults(run.git.reader, candidate):
            raise InputError(faults)
        return candidate

    commit = await context.merge_queue.commit_to_head(compose)
    # The next attempt may begin before the scheduler has read the graph again.
    run.nodes.graph = await run.git.call(run.nodes.read_graph_at, commit)
