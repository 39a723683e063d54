"""Records on the head that a node is blocked: its status, its notes, and the resolve task for the user."""

from tasks_lib.git.compose.commit_composer import Candidate, NewTask
from tasks_lib.model import HUMAN, AttemptEnd, Blocked, Status, Task
from tasks_lib.naming import is_resolve_task, name_resolve_task
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.prompts.agent_prompts import fence
from tasks_lib.session.blockers import Blocker, list_lines, write_criterion
from tasks_lib.taskfile.parsing import decode, get_section, render_task
from tasks_lib.text import fold


async def block_node(context: AttemptContext, blocker: Blocker, agent_work: str = "") -> Blocked:
    """Commit the blocker to the head; the worktree and the branch are kept unchanged for the next attempt.

    The resolve task is for a person, or for an agent if `agent_work` says what that has to do.
    """
    run = context.run
    task = run.nodes.graph.tasks.get(context.task.id, context.task)
    agent_notes = await run.git.call(read_new_notes, context)
    # An agent often reports what it has written into its task file.
    text = (blocker.text.replace(agent_notes, "") if agent_notes else blocker.text).strip()
    notes = "\n\n".join(part for part in (agent_notes, "" if text in agent_notes else text) if part)
    resolve_id = "" if is_resolve_task(task.id) else name_resolve_task(task.id, run.nodes.graph.tasks)
    resolve = make_resolve_task(context, task, resolve_id, blocker, notes, agent_work) if resolve_id else None

    def compose(head: str) -> Candidate:
        return context.merge_queue.composer.compose_blocker(
            task,
            head,
            reason=blocker.reason,
            notes=notes,
            details=list_lines(blocker),
            resolve=resolve,
            attempt=context.record.attempt.number,
            run=run.id,
            session=context.record.attempt.session,
        )

    await context.merge_queue.commit_to_head(compose)
    context.note(stage=AttemptEnd.BLOCKED)
    return Blocked(blocker.reason, resolve_id, kind=blocker.kind)


def make_resolve_task(
    context: AttemptContext, task: Task, resolve_id: str, blocker: Blocker, notes: str, agent_work: str = ""
) -> NewTask:
    """Make the resolve task, a task file; once it is completed on the target, the node can run again.

    It is for a person, or for an agent that does `agent_work`.
    """
    target = context.run.project.target
    needed = (
        fold(agent_work)
        or write_criterion(blocker)
        or f"What blocks it is resolved: in the code, in `{task.path}`, or outside."
    )
    body = f"""## Description
Task `{task.id}` ({task.name}) is blocked:

{blocker.reason}

Kind: {blocker.kind}
{_describe_fields(blocker)}
Its branch `{context.branch}` and its worktree contain the work done so far. `{task.path}` has the agent's notes.

## Acceptance Criteria
- [ ] {needed}
{"" if agent_work else _explain_completion(task, resolve_id, target)}
## Notes
{notes or "(none)"}
"""
    text = render_task(
        resolve_id,
        f"Resolve what blocks {task.id}",
        status=Status.PENDING,
        level=None,
        assignee=None if agent_work else HUMAN,
        depends_on=(),
        body=body,
    )
    return NewTask(resolve_id, f"{context.run.project.tasks_dir}/{resolve_id}.md", text)


def _explain_completion(task: Task, resolve_id: str, target: str) -> str:
    command = f'coordinator resolve {resolve_id} "what the agent needs to know"'
    return f"""- [ ] `{command}` has completed this file, or a commit on {target}
      says `status: completed` here. Then `{task.id}` runs again, in this run or the next.
"""


def _describe_fields(blocker: Blocker) -> str:
    """The agent's exact error, what it tried, and what it suggests, as far as it said so."""
    rows = (("Error", blocker.error), ("Tried", blocker.tried), ("Suggested", blocker.suggested))
    parts = (f"{name}:\n{fence(value)}\n" if name == "Error" else f"{name}: {value}\n" for name, value in rows if value)
    return "\n" + "\n".join(parts)


def read_new_notes(context: AttemptContext) -> str:
    """Return what the agent added to `## Notes` in its own task file compared with the head."""
    file = context.worktree.path / context.task.path
    if file.is_symlink() or not file.is_file():
        return ""
    mine = (get_section(decode(file.read_bytes()), "Notes") or "").strip()
    head = context.run.git.reader.text(context.run.git.head.current(), context.task.path) or ""
    before = (get_section(head, "Notes") or "").strip()
    return mine.removeprefix(before).strip() if before else mine
