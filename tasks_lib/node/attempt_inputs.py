"""Reads everything that an attempt at a node depends on, to tell whether anything is new since it was blocked."""

import hashlib
from collections.abc import Mapping

from tasks_lib.git.commits.commit_messages import ATTEMPT, SESSION
from tasks_lib.git.commits.commit_search import find_last_by_subject
from tasks_lib.model import Task
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.node.branch_inspection import find_work
from tasks_lib.session.fingerprint import AttemptInputs
from tasks_lib.settings.schema import digest_sessions, digest_verify

NARROWED, WAITS, REQUESTED = "narrowed", "waits", "requested"
"""The verbs of the commits that let a node run again without a person: `<verb>(<id>): …`."""


def read_inputs(context: AttemptContext, tasks: Mapping[str, Task]) -> AttemptInputs:
    """Read what an attempt at this node depends on; `tasks` are those at the head, by id.

    Uncommitted changes do not count: an agent that only leaves different garbage has done nothing new.
    """
    run, task = context.run, tasks.get(context.task.id, context.task)
    role = run.settings.role_of(task)
    before = ((one, tasks[one].blob) for one in sorted(set(task.depends_on)) if one in tasks)
    return AttemptInputs(
        work=_digest_work(context),
        task=task.blob,
        prerequisites=tuple(f"{one} {blob}" for one, blob in before),
        notes=context.record.notes,
        settings=f"{digest_sessions(run.settings)} {digest_verify(run.settings)}",
        role=role,
        model=run.settings.model_for(task, role) or run.settings.agent.model,
    )


def read_inputs_at_head(context: AttemptContext) -> AttemptInputs:
    """Read the same for the graph at the current head, which the run may not have read yet."""
    run = context.run
    return read_inputs(context, {task.id: task for task in run.git.reader.read(run.git.head.last_seen()).tasks})


def is_answered(context: AttemptContext) -> bool:
    """Whether the head says that this attempt's blocker was handled, but a kill kept the record from saying so."""
    run, attempt = context.run, context.record.attempt
    for verb in (NARROWED, WAITS):
        found = find_last_by_subject(run.git.repository.git, run.git.head.last_seen(), f"{verb}({context.task.id}):")
        trailers = found.trailers if found else {}
        if (trailers.get(SESSION), trailers.get(ATTEMPT)) == (attempt.session, str(attempt.number)):
            return True
    return False


def _digest_work(context: AttemptContext) -> str:
    commit = context.state.commit if context.state else context.run.git.repository.branch_head(context.branch)
    if not commit or not context.record.attempt.base or commit == context.record.attempt.base:
        return ""
    changes = sorted(f"{one.path} {one.new.oid if one.new else ''}" for one in find_work(context, commit)
                     if one.path != context.task.path)  # fmt: skip
    data = "\n".join(changes).encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()[:16] if changes else ""
