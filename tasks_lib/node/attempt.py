"""One attempt at a node, as a straight line of stages from its worktree to its end."""

from dataclasses import dataclass

from tasks_lib.errors import GitError, InputError, ShellError, SystemFailure
from tasks_lib.git.commits.branch_state import read_line, read_state
from tasks_lib.git.compose.commit_composer import Landing
from tasks_lib.git.kept.snapshots import keep_state
from tasks_lib.git.kept.unreferenced_commits import keep_unreferenced
from tasks_lib.landing.completed_elsewhere import describe_completed_elsewhere, find_completed_elsewhere
from tasks_lib.landing.merge_queue import MergeQueue
from tasks_lib.landing.results import CompletedElsewhere, GivenBack, Held, Landed, LandingResult
from tasks_lib.model import Aborted, AttemptEnd, Checked, Failed, Merged, Outcome, Stage, Verdict
from tasks_lib.node.agent_notices import skip_notices
from tasks_lib.node.attempt_context import Work, open_attempt
from tasks_lib.node.blocking import Blocker, block_node
from tasks_lib.node.branch_review import ReviewFailed, review_branch
from tasks_lib.node.protected_paths import NeedsApproval, find_protected_changes
from tasks_lib.node.turn_loop import prepare_worktree, run_turns, write_first_prompt
from tasks_lib.node.uncommitted_paths import list_agent_changes, list_excused
from tasks_lib.prompts import agent_prompts
from tasks_lib.runtime.agent_requirements import require_agent
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.session_slots import Seat
from tasks_lib.runtime.stopping import Interrupted
from tasks_lib.session.spending import Spent
from tasks_lib.session.turn_ending import AttemptFailed, Done, SafeExit
from tasks_lib.settings.schema import digest_verify
from tasks_lib.text import cut

MAX_NOTES = 20
MAX_NOTE_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Retry:
    """This attempt failed for `reason`, and another one is due."""

    reason: str


async def live(run: Run, merge_queue: MergeQueue, task_id: str, seat: Seat, priority: float) -> Outcome | Retry:
    """Live one attempt at a node to its end; `priority` is its rank in the queue, lowest first.

    Holds a session slot only while an agent works. What can be expected of agents, git and the machine becomes an
    outcome; a cancellation keeps the work and passes on.
    """
    ended = await _live(run, merge_queue, task_id, seat, priority)
    if not isinstance(ended, Retry):
        run.requests.leave(task_id)
    return ended


async def _live(run: Run, merge_queue: MergeQueue, task_id: str, seat: Seat, priority: float) -> Outcome | Retry:
    work: Work | None = None
    try:
        await run.stopping.unless_stopped(seat.take(), task_id)
        # Its merge may have been taken back just now; then its branch, and not the head, is where its work is.
        await merge_queue.wait_for_restored_branches()
        await run.background.wait_for_node(task_id)
        await require_agent(run, task_id)
        work = await open_attempt(run, merge_queue, run.nodes.graph.tasks[task_id], seat)
        if commit := await run.git.call(find_completed_elsewhere, run, task_id):
            return await _end_completed_elsewhere(work, commit)
        await skip_notices(work)
        return await _go_through_stages(work, priority)
    except Interrupted:
        if work and (commit := await run.git.call(find_completed_elsewhere, run, task_id)):
            return await _end_completed_elsewhere(work, commit)
        return Aborted(_explain_stop(run, task_id))
    except (SystemFailure, InputError, OSError) as failure:
        return _end_broken(work, failure)
    finally:
        if work:
            if work.session:
                await work.session.close()
            await run.git.call(work.take_out)
        seat.leave()


def _explain_stop(run: Run, task_id: str) -> str:
    if run.requests.is_abort_requested(task_id):
        return "stopped on request; the work is kept, and the next run resumes it"
    # Why is said once, by the run: it is the same for every node.
    because = " (see its message)" if run.stopping.halt_reason else ""
    return f"the run was stopped{because}; the work is kept, and the next run resumes it"


async def _go_through_stages(work: Work, priority: float) -> Outcome | Retry:
    if await _is_finished_already(work):
        work.answer = work.record.acceptance.answer
        ending = Done(Verdict(work.record.acceptance.verdict) if work.record.acceptance.verdict else None)
    else:
        await prepare_worktree(work)
        ending = await run_turns(work, await work.run.git.call(write_first_prompt, work))
    while True:
        if not isinstance(ending, Done) or _is_refusal(ending):
            return await _end_without_landing(work, ending)
        match await _review_and_land(work, ending, priority):
            case Landed() | CompletedElsewhere() as landed:
                end = _end_landed if isinstance(landed, Landed) else _end_completed_elsewhere
                return await end(work, landed.commit)
            case Held(reason):
                return Failed(f"not landed: {reason}")
            case NeedsApproval(reason, notes, files):
                blocked = await block_node(work, Blocker(reason, notes))
                work.note(findings=work.record.findings.with_protected(files))
                return blocked
            case ReviewFailed(reason):
                return Failed(f"the review {reason}; the work is kept, and the next run continues with its review")
            case GivenBack() as back:
                if refusal := _count_round(work, back):
                    return await block_node(work, Blocker(refusal, _cut(back.prompt)))
                await work.unless_stopped(work.seat.take())
                ending = await run_turns(work, back.prompt)


async def _is_finished_already(work: Work) -> bool:
    """Whether an earlier run accepted exactly what is on the branch, so that it only has to land."""
    if not work.record.acceptance.finished:
        return False
    state = work.state = await work.run.git.call(read_state, work.worktree.git)
    is_accepted = state.commit == work.record.acceptance.finished
    return is_accepted and not await work.run.git.call(list_agent_changes, work, state)


# Review and the queue.


async def _review_and_land(work: Work, done: Done, priority: float) -> LandingResult | ReviewFailed | NeedsApproval:
    run = work.run
    state = work.state or await run.git.call(read_state, work.worktree.git)
    if work.record.acceptance.finished != state.commit:
        report = _extend_report(work.record.acceptance.answer, work.answer)
        work.note(acceptance=work.record.acceptance.accept(state.commit, report, done.verdict))
    if held_back := await run.git.call(find_protected_changes, work, state.commit):
        return held_back
    reviewed = str(done.verdict or "")
    if run.settings.wants_review(work.task):
        if work.record.acceptance.reviewed != state.commit:
            ended = await work.unless_stopped(review_branch(work, state.commit))
            if isinstance(ended, ReviewFailed):
                return ended
            if not ended.verdict.is_approval:
                prompt = agent_prompts.write_changes_prompt(ended.report, run.agents.instructions.templates)
                return GivenBack("the review asks for changes", prompt, True)
            work.note(acceptance=work.record.acceptance.approve(state.commit))
        reviewed = "approved"
    work.seat.leave()
    run.changed.set()  # The free slot is for another node, which is started by whoever hears this.
    work.enter(Stage.QUEUED)
    landing = await _describe_landing(work, state.commit, reviewed)
    return await work.unless_stopped(work.merge_queue.land(landing, priority))


async def _describe_landing(work: Work, commit: str, reviewed: str) -> Landing:
    run, record = work.run, work.record
    is_without_commits = work.task.is_review and commit == record.attempt.base
    summary = record.acceptance.answer.strip()
    if not summary and not is_without_commits:
        line = await run.git.call(read_line, run.git.objects, record.attempt.base, commit)
        summary = "\n".join(f"- {subject}" for subject in line.subjects)
    return Landing(
        task=run.nodes.graph.tasks.get(work.task.id, work.task),
        branch=record.branch,
        commit="" if is_without_commits else commit,
        attempt=record.attempt.number,
        run=run.id,
        session=record.attempt.session,
        verified=digest_verify(run.settings),
        reviewed=reviewed,
        summary=summary,
        identity=run.agents.identity,
        spent=str(record.spending.node),
    )


def _count_round(work: Work, back: GivenBack) -> str:
    """Note that work came back; returns why it may not go round once more, "" if it may."""
    run, record = work.run, work.record
    rounds = record.rounds.add(is_review=back.is_review)
    work.note(
        rounds=rounds,
        acceptance=record.acceptance.refuse(),
        notes=_add_note(record.notes, f"Given back: {back.reason}"),
    )
    work.enter(Stage.GIVEN_BACK, back.reason)
    if rounds.landing > run.settings.land.give_backs:
        return f"{back.reason}; it was given back {run.settings.land.give_backs} times"
    if rounds.review > run.settings.review.max_rounds:
        return f"{back.reason}; it went through {run.settings.review.max_rounds} rounds of review"
    return ""


# Endings.


def _is_refusal(done: Done) -> bool:
    return done.verdict is not None and not done.verdict.is_approval


async def _end_without_landing(work: Work, ending: Done | SafeExit | AttemptFailed) -> Outcome | Retry:
    match ending:
        case SafeExit(reason):
            return await block_node(work, Blocker(reason, _cut(work.answer)))
        case Done():
            return await block_node(work, Blocker("the review asks for changes", _cut(work.answer)))
        case AttemptFailed(reason):
            return await _end_attempt(work, reason)


async def _end_attempt(work: Work, reason: str) -> Outcome | Retry:
    purse, another = work.run.budgets, Spent(turns=1)
    if excess := purse.find_node_excess(work.record, another):
        said = reason if excess in reason else f"{reason}; no further attempt can start: {excess}"
        return await block_node(work, Blocker(said, _cut(work.answer)))
    if excess := purse.find_run_excess(another):
        work.run.stopping.halt(f"{excess}; raise it in coordinator.yaml and run again, which resumes from what is kept")
        work.note(stage=AttemptEnd.FAILED, notes=_add_note(work.record.notes, f"The run was stopped: {excess}"))
        return Failed(reason)
    if work.is_last_attempt():
        attempts = work.run.settings.retry.attempts
        said = f"{reason} (attempt {work.record.attempt.number}; {attempts} allowed)"
        return await block_node(work, Blocker(said, _cut(work.answer)))
    note = f"Attempt {work.record.attempt.number} failed: {reason}"
    work.note(stage=AttemptEnd.FAILED, notes=_add_note(work.record.notes, note))
    return Retry(reason)


def _end_broken(work: Work | None, failure: SystemFailure | InputError | OSError) -> Outcome | Retry:
    """Our own environment broke, or a person changed it meanwhile; a `setup` that failed may do better next time."""
    if work and isinstance(failure, ShellError):
        note = f"Attempt {work.record.attempt.number}: setup failed before the session started: {failure}"
        work.note(notes=_add_note(work.record.notes, note))
        if not work.is_last_attempt():
            work.note(stage=AttemptEnd.FAILED)
            return Retry(str(failure))
    return Failed(str(failure))


async def _end_landed(work: Work, commit: str) -> Outcome:
    """The node is on the head; what it leaves is put away while its dependents already start."""
    run = work.run
    run.nodes.remember_landed(work.task.id, commit)
    work.note(stage=Stage.LANDED)
    run.nodes.records.pop(work.task.id, None)
    is_merge = not (work.task.is_review and work.record.acceptance.finished == work.record.attempt.base)
    await run.git.call(_release, work, work.record.acceptance.finished)
    deletion = run.git.call(_delete_branch, work, commit)
    run.background.start(work.task.id, deletion, f"delete {work.branch}, which has landed")
    return Merged(commit) if is_merge else Checked(commit)


async def _end_completed_elsewhere(work: Work, commit: str) -> Outcome:
    """Somebody else has completed the node, so it is on the head; what was done here is kept at a ref."""
    run = work.run
    if work.session:
        await work.session.close()
        work.session = None
    run.board.say(describe_completed_elsewhere(work.task.id, commit))
    run.nodes.remember_landed(work.task.id, commit)
    work.note(stage=Stage.LANDED)
    await run.git.call(_release, work, await run.git.call(run.git.head.current))
    await run.git.call(_delete_branch, work, commit)
    return Merged(commit)


def _release(work: Work, landed: str) -> None:
    """Give the worktree back, so that a dependent may take it, keeping at a ref what the commit `landed` has not."""
    run = work.run
    work.take_out()
    try:
        state = read_state(work.worktree.git)
        own = list_agent_changes(work, state)
        if state.commit != landed or own:
            excused = (*run.settings.copy_paths, *list_excused(state, own))
            keep_state(work.worktree, work.task.id, run.id, landed=landed, exclude=excused)
        keep_unreferenced(run.git.repository, work.worktree.git_dir, work.branch, work.task.id, state.commit)
        work.state = state
        run.git.worktrees.release(work.worktree)
    except GitError as error:
        said = f"Could not clean up {work.worktree.path}: {error}. Nothing is lost; the next run tries again."
        run.say_from_thread(said)


def _delete_branch(work: Work, merge: str) -> None:
    run, landed = work.run, work.record.acceptance.finished
    tip = work.state.commit if work.state else landed
    run.git.repository.delete_branch(work.branch, tip)
    head = run.git.head.last_seen()
    if not run.git.head.contains(merge, head) and not run.git.head.contains(landed, head):
        # The base moved meanwhile, and the merge was taken back: then the branch is all that holds the work.
        run.git.repository.create_branch(work.branch, tip)


def _extend_report(before: str, said: str) -> str:
    """The report of the turns that were accepted: what mends it is added to the first, which tells of the work."""
    before, said = before.strip(), said.strip()
    if not before or not said or said in before:
        return before or said
    report = f"{before}\n\n{said}"
    return cut(report, MAX_NOTE_CHARS)


def _add_note(notes: tuple[str, ...], note: str) -> tuple[str, ...]:
    return (*notes, _cut(note))[-MAX_NOTES:]


def _cut(text: str) -> str:
    text = text.strip()
    return text if len(text) <= MAX_NOTE_CHARS else "…" + text[-MAX_NOTE_CHARS:]
