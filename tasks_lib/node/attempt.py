"""Runs one attempt at a node as a sequence of stages, from opening its worktree to its outcome."""

from dataclasses import dataclass

from tasks_lib.errors import InputError, ShellError, SystemFailure
from tasks_lib.git.commits.branch_state import read_state
from tasks_lib.landing.completed_elsewhere import describe_completed_elsewhere, find_completed_elsewhere
from tasks_lib.landing.merge_queue import MergeQueue
from tasks_lib.landing.results import CompletedElsewhere, GivenBack, Held, Landed, LandingResult
from tasks_lib.model import (
    Aborted,
    AttemptEnd,
    Blocked,
    BlockerKind,
    Checked,
    Failed,
    Merged,
    Outcome,
    Stage,
    Verdict,
    Waiting,
)
from tasks_lib.node.agent_notices import skip_notices
from tasks_lib.node.attempt_context import MAX_NOTE_CHARS, MAX_NOTES, AttemptContext
from tasks_lib.node.attempt_opening import is_refused, open_attempt
from tasks_lib.node.blocking import block_node, read_new_notes
from tasks_lib.node.branch_review import ReviewFailed, note_review
from tasks_lib.node.coming_conflicts import BranchInFlight
from tasks_lib.node.dropped_changes import (
    DroppedForPerson,
    find_changes_dropped_by_person,
    find_dropped_changes,
)
from tasks_lib.node.landed_worktree import delete_landed_branch, release_worktree
from tasks_lib.node.landing_approval import ask_before_landing, explain_change, give_back_to_person
from tasks_lib.node.landing_report import describe_landing, extend_report, shorten_answer, shorten_blocker
from tasks_lib.node.protected_paths import NeedsApproval, find_protected_changes
from tasks_lib.node.review_follow_ups import request_follow_ups
from tasks_lib.node.review_gate import find_review_reason, pass_review
from tasks_lib.node.session_place import acquire_place, settle_lost_session
from tasks_lib.node.turn_loop import prepare_worktree, run_turns, write_first_prompt
from tasks_lib.node.unblocking import Answered, handle_blocker, resume_blocker
from tasks_lib.node.uncommitted_paths import list_agent_changes
from tasks_lib.node.worktree_repair import remove_nested_items
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.runtime.agent_requirements import require_agent
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.session_slots import SlotLease
from tasks_lib.runtime.stopping import Interrupted
from tasks_lib.session.blockers import Blocker
from tasks_lib.session.escalation import has_attempt
from tasks_lib.session.review_report import find_objection, parse_review
from tasks_lib.session.spending import Spent
from tasks_lib.session.turn_ending import AttemptFailed, Done, SafeExit

NOTHING_NEW = (
    "nothing that it depends on has changed since it was last blocked; edit its task file, or give its agent an answer"
)
MAX_PATHS = 100
"""How many conflicting paths the journal of a run names."""


@dataclass(frozen=True, slots=True)
class AttemptRetry:
    """The attempt failed because of `reason`, and another attempt is due."""

    reason: str


async def run_attempt(
    run: Run, merge_queue: MergeQueue, task_id: str, slot_lease: SlotLease, priority: float
) -> Outcome | AttemptRetry:
    """Run one attempt at a node to its end; `priority` is its rank in the merge queue, lowest first.

    Occupies a session slot only while an agent is running. Expected failures of agents, git and the machine become
    outcomes. A cancellation keeps the work and propagates.
    """
    ended = await _run_attempt(run, merge_queue, task_id, slot_lease, priority)
    while isinstance(ended, Answered):  # At most safe_exit.resolver_turns times.
        ended = await _run_attempt(run, merge_queue, task_id, slot_lease, priority)
    if not isinstance(ended, AttemptRetry):
        run.requests.leave(task_id)
    return ended


async def _run_attempt(
    run: Run, merge_queue: MergeQueue, task_id: str, slot_lease: SlotLease, priority: float
) -> "Outcome | AttemptRetry | Answered":
    context: AttemptContext | None = None
    try:
        if not run.nodes.is_permitted(task_id):  # It only has to land, which needs no slot.
            await acquire_place(run, run.nodes.graph.tasks[task_id], slot_lease)
        # Its merge may have just been taken back; its work is then on its branch, and not on the head.
        await merge_queue.wait_for_restored_branches()
        await run.background.wait_for_node(task_id)
        await require_agent(run, task_id)
        context = await open_attempt(run, merge_queue, run.nodes.graph.tasks[task_id], slot_lease)
        if commit := await run.git.call(find_completed_elsewhere, run, task_id):
            return await _end_completed_elsewhere(context, commit)
        if is_refused(context):
            run.nodes.dispatches.refuse(task_id)
            return Blocked(NOTHING_NEW)
        await skip_notices(context)
        merge_queue.radar.enter(BranchInFlight(context))
        return await resume_blocker(context) or await _go_through_stages(context, priority)
    except Interrupted:
        if context and (commit := await run.git.call(find_completed_elsewhere, run, task_id)):
            return await _end_completed_elsewhere(context, commit)
        return Aborted(_explain_stop(run, task_id))
    except (SystemFailure, InputError, OSError) as failure:
        return _end_broken(context, failure)
    finally:
        merge_queue.radar.leave(task_id)
        if context:
            if context.session:
                await context.session.close()
            if not context.task.is_human:  # A person may go on working in theirs.
                await run.git.call(remove_nested_items, context)
        slot_lease.release()


def _explain_stop(run: Run, task_id: str) -> str:
    if run.requests.is_abort_requested(task_id):
        return "stopped on request; the work is kept, and the next run resumes it"
    # The reason is the same for every node, so the run reports it once.
    because = " (see its message)" if run.stopping.halt_reason else ""
    return f"the run was stopped{because}; the work is kept, and the next run resumes it"


async def _go_through_stages(context: AttemptContext, priority: float) -> Outcome | AttemptRetry | Answered:
    if await _is_finished_already(context):
        context.reports.answer = context.record.acceptance.answer
        ending = Done(Verdict(context.record.acceptance.verdict) if context.record.acceptance.verdict else None)
    elif context.task.is_human:
        return explain_change(context)
    else:
        await prepare_worktree(context)
        ending = await _run_turns(context, await context.run.git.call(write_first_prompt, context))
    while True:
        if not isinstance(ending, Done) or _find_objection(context, ending):
            return await _end_without_landing(context, ending)
        result = await _review_and_land(context, ending, priority)
        if context.task.is_human or not isinstance(result, GivenBack):
            return await _end_at_queue(context, result)
        if refusal := _count_round(context, result):
            return await handle_blocker(context, Blocker(refusal, text=_cut(result.facts or result.prompt)))
        await acquire_place(context.run, context.task, context.slot_lease)
        ending = await _run_turns(context, result.prompt)


async def _run_turns(context: AttemptContext, prompt: str) -> Done | SafeExit | AttemptFailed:
    ending = await run_turns(context, prompt)
    if isinstance(ending, Done) and ending.verdict is not None:
        note_review(context, ending.verdict, parse_review(context.reports.answer))
    return ending


async def _is_finished_already(context: AttemptContext) -> bool:
    """Whether an earlier run accepted exactly what is on the branch, so that it only needs to land."""
    if not context.record.acceptance.finished:
        return False
    state = context.state = await context.run.git.call(read_state, context.worktree.git)
    is_accepted = state.commit == context.record.acceptance.finished
    return is_accepted and not await context.run.git.call(list_agent_changes, context, state)


# Review and the queue.


async def _review_and_land(
    context: AttemptContext, done: Done, priority: float
) -> LandingResult | ReviewFailed | NeedsApproval | DroppedForPerson | Waiting:
    run = context.run
    state = context.state or await run.git.call(read_state, context.worktree.git)
    if context.record.acceptance.finished != state.commit:
        report = extend_report(context, context.reports.answer)
        context.note(acceptance=context.record.acceptance.accept(state.commit, report, done.verdict))
    if held_back := await run.git.call(_find_objections, context, state.commit):
        return held_back
    reviewed = str(done.verdict or "")
    if reason := await find_review_reason(context, state.commit):
        reviewed = str(Verdict.APPROVED)
        landing = await describe_landing(context, state.commit, reviewed)
        if refusal := await pass_review(context, landing, priority, reason):
            return refusal
    landing = await describe_landing(context, state.commit, reviewed)
    if waiting := await ask_before_landing(context, landing, priority):
        return waiting
    context.slot_lease.release()
    run.changed.set()  # The scheduler, which waits for this event, can start another node in the free slot.
    context.enter(Stage.QUEUED)
    landing = await describe_landing(context, state.commit, reviewed)
    return await context.unless_stopped(context.merge_queue.land(landing, priority))


def _find_objections(context: AttemptContext, commit: str) -> GivenBack | NeedsApproval | DroppedForPerson | None:
    """What has to be decided about the branch before it may land: by its session, or by a person."""
    if context.task.is_human:  # Who lands their own work may change what is protected.
        return find_changes_dropped_by_person(context, commit)
    return find_protected_changes(context, commit) or find_dropped_changes(context, commit)


def _count_round(context: AttemptContext, back: GivenBack) -> str:
    """Record that the work was given back; return why the session may not have another round, or "" if it may."""
    run, record = context.run, context.record
    rounds = record.rounds.add(is_review=back.is_review)
    context.note(
        rounds=rounds,
        acceptance=record.acceptance.refuse(),
        notes=_add_note(record.notes, f"Given back: {back.reason}\n\n{back.facts or back.prompt}"),
        conflicts=record.conflicts.give_back(back.conflicted, is_about_drops=back.is_about_drops),
    )
    context.enter(Stage.GIVEN_BACK, back.reason)
    paths, reason = back.paths[:MAX_PATHS], back.reason
    run.nodes.journal.note(JournalEvent.REFUSED, context.task.id, cause=back.cause, paths=paths, reason=reason)
    if rounds.landing > run.settings.land.give_backs:
        return f"{back.reason}; it was given back {run.settings.land.give_backs} times"
    if rounds.review > run.settings.review.max_rounds:
        return f"{back.reason}; it went through {run.settings.review.max_rounds} rounds of review"
    return ""


# Endings.


def _find_objection(context: AttemptContext, done: Done) -> str:
    """Why a review node does not approve, "" if it does or if the node is none."""
    return find_objection(done.verdict, parse_review(context.reports.answer)) if done.verdict is not None else ""


async def _end_at_queue(
    context: AttemptContext, result: LandingResult | ReviewFailed | NeedsApproval | DroppedForPerson | Waiting
) -> Outcome:
    match result:
        case Landed(commit):
            return await _end_landed(context, commit)
        case CompletedElsewhere(commit):
            return await _end_completed_elsewhere(context, commit)
        case Held(reason):
            return Failed(f"not landed: {reason}")
        case NeedsApproval() | DroppedForPerson() as held:
            return await _wait_for_approval(context, held)
        case ReviewFailed(reason):
            return Failed(f"the review {reason}; the work is kept, and the next run continues with its review")
        case GivenBack() as back:
            return give_back_to_person(context, back)
        case Waiting() as waiting:
            return waiting


async def _wait_for_approval(context: AttemptContext, held: NeedsApproval | DroppedForPerson) -> Blocked:
    """Block the node; once a person has resolved that, what they were asked to allow may land."""
    blocker = _ask_person(held.reason, held.notes)
    if isinstance(held, DroppedForPerson):
        # Written together with the blocker: only once the node is blocked does an answer allow them.
        context.record = context.record.change(conflicts=context.record.conflicts.ask(held.identities))
        return await block_node(context, blocker)
    blocked = await block_node(context, blocker)
    context.note(findings=context.record.findings.with_protected(held.files))
    return blocked


async def _end_without_landing(
    context: AttemptContext, ending: Done | SafeExit | AttemptFailed
) -> Outcome | AttemptRetry | Answered:
    match ending:
        case SafeExit(reason):
            said = await context.run.git.call(read_new_notes, context)
            return await handle_blocker(context, shorten_blocker(context, reason, _cut(context.reports.answer), said))
        case Done():
            objection, said = _find_objection(context, ending), _quote(context)
            waiting = await request_follow_ups(context, objection, said)
            return waiting or await handle_blocker(context, _ask_person(objection, said))
        case AttemptFailed(reason):
            ended = await _end_attempt(context, reason)
            await settle_lost_session(context, reason, is_retried=isinstance(ended, AttemptRetry | Answered))
            return ended


def _ask_person(reason: str, text: str) -> Blocker:
    """A blocker that only a person may decide."""
    return Blocker(reason, BlockerKind.DECISION, text=text, needs_person=True)


async def _end_attempt(context: AttemptContext, reason: str) -> Outcome | AttemptRetry | Answered:
    budgets, another = context.run.budgets, Spent(turns=1)
    if excess := budgets.find_node_excess(context.record, another):
        said = reason if excess in reason else f"{reason}; no further attempt can start: {excess}"
        return await handle_blocker(context, _ask_person(said, _quote(context)))
    if excess := budgets.find_run_excess(another):
        context.run.stopping.halt(
            f"{excess}; raise it in coordinator.yaml and run again, which resumes from what is kept"
        )
        context.note(stage=AttemptEnd.FAILED, notes=_add_note(context.record.notes, f"The run was stopped: {excess}"))
        return Failed(reason)
    if _is_last_attempt(context):
        attempts = context.run.settings.retry.attempts
        said = f"{reason} (attempt {context.record.attempt.number}; {attempts} allowed)"
        blocker = Blocker(said, BlockerKind.ENVIRONMENT, error=reason, text=_quote(context))
        return await handle_blocker(context, blocker)
    note = f"Attempt {context.record.attempt.number} failed: {reason}"
    context.note(stage=AttemptEnd.FAILED, notes=_add_note(context.record.notes, note))
    return AttemptRetry(reason)


def _end_broken(
    context: AttemptContext | None, failure: SystemFailure | InputError | OSError
) -> Outcome | AttemptRetry:
    """End an attempt whose environment broke or was changed by the user; only a failed `setup` is retried."""
    if context and isinstance(failure, ShellError):
        note = f"Attempt {context.record.attempt.number}: setup failed before the session started: {failure}"
        context.note(notes=_add_note(context.record.notes, note))
        if not _is_last_attempt(context):
            context.note(stage=AttemptEnd.FAILED)
            return AttemptRetry(str(failure))
    return Failed(str(failure))


def _is_last_attempt(context: AttemptContext) -> bool:
    """Whether the node has used all attempts that `retry.attempts` allows since it was last blocked."""
    attempt = context.record.attempt
    return not has_attempt(attempt.number, attempt.allowance, context.run.settings.retry.attempts)


async def _end_landed(context: AttemptContext, commit: str) -> Outcome:
    """End a node that is on the head; its branch is deleted in the background while its dependents start."""
    run = context.run
    run.nodes.remember_landed(context.task.id, commit)
    accepted, began_at = context.record.acceptance.finished, context.record.attempt.base
    context.merge_queue.radar.land(context.task.id, commit, accepted, began_at)
    context.note(stage=Stage.LANDED)
    run.nodes.records.pop(context.task.id, None)
    is_merge = not (context.task.is_review and context.record.acceptance.finished == context.record.attempt.base)
    await run.git.call(release_worktree, context, context.record.acceptance.finished)
    deletion = run.git.call(delete_landed_branch, context, commit)
    run.background.start(context.task.id, deletion, f"delete {context.branch}, which has landed")
    return Merged(commit) if is_merge else Checked(commit)


async def _end_completed_elsewhere(context: AttemptContext, commit: str) -> Outcome:
    """End a node that somebody else has completed, so that it is on the head; the work done here is kept at a ref."""
    run = context.run
    if context.session:
        await context.session.close()
        context.session = None
    run.board.say(describe_completed_elsewhere(context.task.id, commit))
    run.nodes.remember_landed(context.task.id, commit)
    context.note(stage=Stage.LANDED)
    await run.git.call(release_worktree, context, await run.git.call(run.git.head.current))
    await run.git.call(delete_landed_branch, context, commit)
    return Merged(commit)


def _add_note(notes: tuple[str, ...], note: str) -> tuple[str, ...]:
    return (*notes, _cut(note))[-MAX_NOTES:]


def _quote(context: AttemptContext) -> str:
    """What the agent said last, as far as it is quoted in task files."""
    return _cut(shorten_answer(context, context.reports.answer))


def _cut(text: str) -> str:
    text = text.strip()
    return text if len(text) <= MAX_NOTE_CHARS else "…" + text[-MAX_NOTE_CHARS:]
