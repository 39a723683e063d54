"""Finds the place where a node's session can run now, and leaves sessions on other machines that cannot continue."""

from functools import partial
from pathlib import Path

from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.model import AttemptEnd, Stage, Task
from tasks_lib.node.attempt_context import AttemptContext, new_session_id
from tasks_lib.reporting.journal_events import Cause
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.session_slots import SlotLease
from tasks_lib.session.attempt_record import Record
from tasks_lib.settings.spoke_schema import Place


async def acquire_place(run: Run, task: Task, lease: SlotLease) -> None:
    """Acquire a slot where a session of `task` can run. Raises Interrupted.

    If no spoke is online for a node that was to run on one, its session runs here. One that may not waits for a spoke,
    without a slot.
    """
    remote = run.agents.remote
    acquire = partial(run.stopping.unless_stopped, node_id=task.id)
    with run.nodes.journal.waiting(task.id, Cause.SLOT, run.agents.clock):
        while True:
            while remote and lease.place is Place.SPOKES and not remote.has_machine(task):
                lease.release()
                if run.agents.places.move_here(task, lease):
                    run.board.say(f"{task.id} runs here, since no spoke is online for it.")
                else:
                    await acquire(remote.wait_for_machine(task))
            await acquire(lease.acquire())
            if remote is None or lease.place is Place.LOCAL or remote.has_machine(task):
                return


def runs_elsewhere(context: AttemptContext) -> bool:
    """Return whether the node's session runs on another machine, or an earlier run has started it there."""
    remote = context.run.agents.remote
    if remote is None:
        return False
    return context.slot_lease.place is Place.SPOKES or remote.continues(context.record.turn.conversation)


async def can_continue(context: AttemptContext) -> bool:
    """Whether the session that the record names can take the next turn; True for one on this machine."""
    remote, turn = context.run.agents.remote, context.record.turn
    if remote is None or not remote.continues(turn.conversation):
        return True
    return await remote.can_continue(turn.conversation, context.record.attempt.number, turn.number + 1)


async def place_session(context: AttemptContext) -> None:
    """Decide where the session takes its next turn: where it is, or, if it cannot continue there, wherever it can."""
    remote = context.run.agents.remote
    if remote is None or not runs_elsewhere(context):
        return
    is_begun = remote.continues(context.record.turn.conversation)
    if is_begun:
        if await can_continue(context):
            return
        await drop_session(context)
    await acquire_place(context.run, context.task, context.slot_lease)
    if is_begun and context.slot_lease.place is Place.LOCAL:
        attempt = context.record.attempt.with_session(new_session_id())
        context.note(attempt=attempt, turn=context.record.turn.with_conversation(""))


async def drop_session(context: AttemptContext) -> None:
    """End a session on another machine that does not continue; what it had pushed is in the worktree then."""
    record, remote = context.record, context.run.agents.remote
    if remote:
        log = find_session_log(context.run, record)
        await remote.give_up(record.attempt.session, record.turn.conversation, context.worktree, log)
        context.state = None
    if context.session:
        await context.session.close()
        context.session = None


async def settle_lost_session(context: AttemptContext, reason: str, *, is_retried: bool) -> None:
    """Tell the user if the attempt failed because its session is lost; end that unless it could return for a retry."""
    remote = context.run.agents.remote
    if remote and remote.is_lost(context.record.turn.conversation):
        context.run.board.say(f"{context.task.id}: {reason}.")
        if not is_retried:
            await drop_session(context)


async def resume_returned_session(
    run: Run, task: Task, previous: Record, worktree: Worktree, lease: SlotLease
) -> Record:
    """Decide about a session that was lost: return its attempt's record as one that continues if it is back.

    While there is no place for another session, it may still come back. Otherwise the session is ended, so that a later
    report cannot become the result of any attempt.
    """
    remote, turn, number = run.agents.remote, previous.turn, previous.attempt.number
    if remote is None or previous.stage is not AttemptEnd.FAILED or not remote.is_lost(turn.conversation):
        return previous
    while not (is_back := await remote.has_returned(task, turn.conversation, number, turn.number)):
        if lease.place is Place.LOCAL or remote.has_machine(task):
            break
        await acquire_place(run, task, lease)
    if not is_back:
        session, log = previous.attempt.session, find_session_log(run, previous)
        await remote.give_up(session, turn.conversation, worktree, log)
        return previous
    run.board.say(f"{task.id}: the session that was lost is back; attempt {number} continues with it.")
    notes = tuple(note for note in previous.notes if not note.startswith(f"Attempt {number} failed: "))
    return previous.change(stage=Stage.SESSION, notes=notes)


def find_session_log(run: Run, record: Record) -> Path:
    """The log of an attempt's session."""
    return run.log_path(record.task_id, f"session-{record.attempt.number}")
