"""Handles a blocker: a resolver may answer it, once; otherwise it goes to a person."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasks_lib.errors import InputError
from tasks_lib.git.compose.commit_composer import NewTask
from tasks_lib.git.compose.task_file_text import note_text
from tasks_lib.model import AttemptEnd, Blocked, Stage
from tasks_lib.naming import is_resolve_task, show_some
from tasks_lib.node.attempt_context import MAX_NOTES, AttemptContext
from tasks_lib.node.attempt_inputs import NARROWED, WAITS, is_answered, read_inputs_at_head
from tasks_lib.node.blocking import block_node
from tasks_lib.node.resolver_turn import ask_resolver
from tasks_lib.node.task_edits import commit_task_edit, name_follow_up, place_task
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.session.blockers import Blocker, list_lines, read_blocker, write_blocker
from tasks_lib.session.fingerprint import digest_inputs, digest_situation
from tasks_lib.session.resolver_answer import (
    AddDependency,
    AgentWork,
    NarrowScope,
    NeedsPerson,
    ResolverAnswer,
    SupplyContext,
    describe_answer,
)
from tasks_lib.taskfile.criteria import drop_criteria
from tasks_lib.taskfile.parsing import add_dependency, render_task
from tasks_lib.text import cut, fold


@dataclass(frozen=True, slots=True)
class Answered:
    """The blocker was answered without a person, and a new attempt is due at once."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Before:
    """What the blocked attempt depended on: without the notes, and the fingerprint of all, "" if it is not known."""

    situation: str
    fingerprint: str = ""


async def handle_blocker(context: AttemptContext, blocker: Blocker) -> Blocked | Answered:
    """Handle what blocks the node; after a kill, `resume_blocker` continues from the record."""
    inputs = await context.run.git.call(read_inputs_at_head, context)
    before = _Before(digest_situation(inputs), digest_inputs(inputs))
    if refusal := _find_refusal(context, blocker, before.situation):
        said = "\n\n".join(part for part in (blocker.text, refusal.strip()) if part)
        return await _ask_person(context, replace(blocker, text=said), before.situation)
    context.note(unblocking=context.record.unblocking.handle(write_blocker(blocker)))
    context.enter(Stage.RESOLVER, f"asked what blocks it ({blocker.kind}): {cut(fold(blocker.reason), 120)}")
    answer = await context.unless_stopped(ask_resolver(context, blocker))
    # Written together with what follows from the answer: a kill in between would lose the answer, not the count.
    context.record = context.record.change(unblocking=context.record.unblocking.end_turn())
    return await _apply(context, blocker, answer, before)


async def resume_blocker(context: AttemptContext) -> Blocked | Answered | None:
    """Continue with the blocker that an earlier run was handling when it ended, None if there was none."""
    blocker = read_blocker(context.record.unblocking.blocker)
    if blocker is None:
        return None
    if await context.run.git.call(is_answered, context):
        return await _end_answered(context, blocker.reason, _Before(context.record.unblocking.situation))
    return await handle_blocker(context, blocker)


def _find_refusal(context: AttemptContext, blocker: Blocker, situation: str) -> str:
    """Why no resolver is asked, as a sentence for the person, " " without one; "" if a resolver is asked."""
    run, record = context.run, context.record
    limits = run.settings.safe_exit
    if blocker.needs_person or not run.settings.wants_resolver or is_resolve_task(context.task.id):
        return " "
    if record.unblocking.situation == situation:
        return "Nothing that it depends on has changed since it was last blocked, so no resolver was asked."
    if record.unblocking.asked >= limits.resolver_turns:
        return f"A resolver was asked {record.unblocking.asked} times before; safe_exit.resolver_turns allows no more."
    if excess := run.budgets.refuse_turn(record, record.attempt.session):
        return f"No resolver was asked: {excess}."
    return ""


async def _apply(
    context: AttemptContext, blocker: Blocker, answer: ResolverAnswer | None, before: _Before
) -> Blocked | Answered:
    said = describe_answer(answer) if answer else "gave no answer that could be read"
    try:
        match answer:
            case SupplyContext(text):
                ended: Blocked | Answered = await _end_answered(context, blocker.reason, before, blocker, text)
            case NarrowScope(dropped, text):
                ended = await _narrow(context, blocker, before, dropped, text)
            case AddDependency(task_id):
                ended = await _wait_for(context, blocker, before, task_id)
            case AgentWork(text):
                ended = await _give_to_agent(context, blocker, before, text)
            case NeedsPerson() | None:
                found = f"The resolver {said}." if answer is None else f"The resolver found out:\n\n{answer.text}"
                return await _ask_person(context, _add(blocker, found), before.situation)
    except InputError as error:
        refused = f"The resolver {said}, which is not possible: {error}"
        return await _ask_person(context, _add(blocker, refused), before.situation)
    context.run.board.say(f"{context.task.id}: it was blocked ({blocker.kind}); a resolver {said.rstrip('.')}.")
    facts = {"kind": str(blocker.kind), "reason": blocker.reason, "how": said}
    context.run.nodes.journal.note(JournalEvent.ANSWERED, context.task.id, **facts)
    return ended


def _add(blocker: Blocker, text: str) -> Blocker:
    return replace(blocker, text="\n\n".join(part for part in (blocker.text, text) if part))


async def _ask_person(context: AttemptContext, blocker: Blocker, situation: str) -> Blocked:
    blocked = await block_node(context, blocker)
    left = digest_inputs(await context.run.git.call(read_inputs_at_head, context))
    context.note(unblocking=context.record.unblocking.leave(situation, left))
    return blocked


async def _end_answered(
    context: AttemptContext, reason: str, before: _Before, blocker: Blocker | None = None, text: str = ""
) -> Answered:
    """Record that the blocker was answered; one write, so that a kill leaves either the question or the answer."""
    record = context.record
    notes = record.notes
    if blocker and text:
        stopped = "\n".join((f"Attempt {record.attempt.number} stopped: {reason}", *list_lines(blocker)))
        notes = (*notes, stopped, f"A resolver answered this, from the repository:\n\n{text}")[-MAX_NOTES:]
    unblocking = record.unblocking.leave(before.situation, before.fingerprint)
    context.note(stage=AttemptEnd.ANSWERED, notes=notes, unblocking=unblocking)
    return Answered(reason)


async def _narrow(
    context: AttemptContext, blocker: Blocker, before: _Before, dropped: Sequence[str], why: str
) -> Answered:
    """Move criteria of the task into follow-up task files, which the run works on once the task has landed."""
    task = context.task
    _, gone = drop_criteria(await context.run.git.call(_read_own, context), dropped)
    if not gone:
        raise InputError([f"{task.path} has no such acceptance criteria, or no others"])
    known = set(context.run.nodes.graph.tasks)
    added: list[NewTask] = []
    for criterion in gone:
        added.append(_make_follow_up(context, criterion, known))
        known.add(added[-1].id)
    names = show_some([new.id for new in added])
    note = f"Narrowed, because it was blocked: {fold(blocker.reason)}\n"
    note += "\n".join(f"- {new.id}: {one}" for new, one in zip(added, gone, strict=True)) + f"\n\n{why}"

    def edit(text: str) -> str:
        return note_text(drop_criteria(text, dropped)[0], note)

    await commit_task_edit(context, edit, f"{NARROWED}({task.id}): {names}", added)
    context.run.board.say(f"{task.id}: acceptance criteria were moved to follow-up tasks: {names}.")
    return await _end_answered(context, blocker.reason, before)


def _make_follow_up(context: AttemptContext, criterion: str, known: set[str]) -> NewTask:
    task, task_id = context.task, name_follow_up(context.task, known)
    body = f"""## Description
This was an acceptance criterion of task `{task.id}` ({task.name}), which was blocked and landed without it.

## Acceptance Criteria
- [ ] {criterion}

## Notes

## Summary
"""
    name = f"Follow up {task.id}: {cut(fold(criterion), 60)}"
    text = render_task(task_id, name, level=task.level, depends_on=(task.id,), body=body)
    return place_task(context, task_id, text)


async def _wait_for(context: AttemptContext, blocker: Blocker, before: _Before, task_id: str) -> Blocked:
    """Let the node depend on another task; it runs again once that has landed."""
    task = context.task
    if task_id in context.run.nodes.graph.tasks[task.id].depends_on:
        raise InputError([f"{task.id} depends on {task_id} already"])
    note = "\n".join((f"Waits for {task_id}, because it was blocked: {fold(blocker.reason)}", *list_lines(blocker)))

    def edit(text: str) -> str:
        return add_dependency(note_text(text, note), task_id)

    await commit_task_edit(context, edit, f"{WAITS}({task.id}): {task_id}", ())
    await _end_answered(context, blocker.reason, before)
    return Blocked(f"{blocker.reason}; it waits for {task_id}", kind=blocker.kind, waits_for=task_id)


async def _give_to_agent(context: AttemptContext, blocker: Blocker, before: _Before, work: str) -> Blocked:
    """Make a resolve task for an agent; the node runs again in the same run once that has landed."""
    blocked = await block_node(context, _add(blocker, f"A resolver suggests:\n\n{work}"), work)
    await _end_answered(context, blocker.reason, before)
    return blocked


def _read_own(context: AttemptContext) -> str:
    run = context.run
    return run.git.reader.text(run.git.head.last_seen(), context.task.path) or ""
