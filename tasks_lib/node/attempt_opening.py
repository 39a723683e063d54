"""Opens an attempt at a node: its worktree, and its record, which continues from what an earlier run left."""

from tasks_lib.git.commits.merge_tree import find_merge_base
from tasks_lib.git.session_record import clear_notices
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.landing.merge_queue import MergeQueue
from tasks_lib.model import AttemptEnd, Stage, Task
from tasks_lib.node.attempt_context import AttemptContext, new_session_id
from tasks_lib.node.attempt_inputs import read_inputs
from tasks_lib.node.branch_start import update_unstarted_branch
from tasks_lib.node.previous_attempt import count_attempts, read_previous
from tasks_lib.node.session_place import resume_returned_session
from tasks_lib.node.user_messages import UserMessages
from tasks_lib.process.process_groups import GroupId, end_group
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.session_slots import SlotLease
from tasks_lib.session.attempt_record import AttemptIdentity, Record
from tasks_lib.session.fingerprint import digest_inputs
from tasks_lib.session.spending import NOTHING, Spent


def make_next_record(
    previous: Record | None,
    task_id: str,
    branch: str,
    base: str,
    run_id: str,
    attempts_before: int,
    spawned: Spent = NOTHING,
) -> Record:
    """Make the record of the attempt that begins now.

    After a failed or blocked attempt, a new attempt begins. An interrupted attempt continues under its number and
    repeats a turn that had not ended. `attempts_before` is the number of earlier attempts according to git, for when no
    record is left, and `spawned` what the tasks have used that its sessions have spawned.
    """
    if previous is None or previous.task_id != task_id:
        number = attempts_before + 1
        attempt = AttemptIdentity(number, number, session=new_session_id(), run=run_id, base=base)
        return Record(task_id, branch, attempt=attempt)
    if isinstance(previous.stage, AttemptEnd):
        return previous.begin_next(new_session_id(), run_id, spawned)
    return previous.resume(run_id)


async def open_attempt(run: Run, merge_queue: MergeQueue, task: Task, slot_lease: SlotLease) -> AttemptContext:
    """Create or resume the node's worktree, and end processes that an earlier coordinator left running in it."""
    head = run.git.head.last_seen()
    branch = run.nodes.branch_of(task.id)
    previous, worktree, before = await run.git.call_opening(_open_worktree, run, task.id, branch, head)
    if previous and previous.turn.pid:
        group = GroupId(previous.turn.pid, previous.turn.pid_started)
        await end_group(group, run.settings.watch.stop_seconds, session=previous.attempt.session)
    if previous:
        previous = await resume_returned_session(run, task, previous, worktree, slot_lease)
    is_found = previous is None and not worktree.is_new_branch
    base = await run.git.call(_find_base, run, branch, head) if is_found else head
    record = make_next_record(previous, task.id, branch, base, run.id, before, run.budgets.count_spawned(task.id))
    run.budgets.note_node(task.id, record.spending)
    if previous is None or record.attempt.number != previous.attempt.number:
        # Each attempt numbers its turns from the start, so an old notice would be taken for one of this attempt.
        await run.git.call(clear_notices, worktree.git_dir)
    is_begun = previous is not None and previous.attempt.number == record.attempt.number
    remote = run.agents.remote
    # A session on another machine may still be running; it continues from the commit where it began.
    may_move = not (is_begun and remote and remote.continues(record.turn.conversation))
    record, state = await run.git.call_opening(update_unstarted_branch, run, worktree, record, head, may_move=may_move)
    # A clean worktree at the head is the same as a new one, unless its session continues an interrupted attempt.
    is_fresh = state is not None and state.commit == head and not state.dirty and not is_begun
    record = record.change(
        attempt=record.attempt.with_slot(worktree.slot), turn=record.turn.with_process(0, record.turn.pid_started)
    )
    context = AttemptContext(
        run, merge_queue, task, slot_lease, worktree, record,
        is_resumed=worktree.is_resumed and not is_fresh, state=state,
    )  # fmt: skip
    await run.git.call(_record_fingerprint, context, previous)
    if is_refused(context):
        return context
    run.requests.enter(task.id, UserMessages(context))
    context.enter(Stage.WORKTREE, branch)
    return context


def is_refused(context: AttemptContext) -> bool:
    """Whether the attempt may not begin, because nothing that it depends on is new since the node was blocked."""
    return isinstance(context.record.stage, AttemptEnd)


def _record_fingerprint(context: AttemptContext, previous: Record | None) -> None:
    """Record what the attempt depends on; after a blocker with nothing new since, the attempt may not begin."""
    fingerprint = digest_inputs(read_inputs(context, context.run.nodes.graph.tasks))
    is_after_block = previous is not None and previous.stage in (AttemptEnd.BLOCKED, AttemptEnd.ANSWERED)
    if previous and is_after_block and previous.unblocking.left == fingerprint:
        context.record = previous
        return
    context.record = context.record.change(
        stage=Stage.WORKTREE, unblocking=context.record.unblocking.begin(fingerprint)
    )
    context.run.nodes.dispatches.note(context.task.id, fingerprint, is_after_block=is_after_block)


def _find_base(run: Run, branch: str, head: str) -> str:
    """Find where a branch began that a killed coordinator left without a record; the head may have moved since."""
    tip = run.git.repository.branch_head(branch)
    return (tip and find_merge_base(run.git.repository.git, head, tip)) or head


def _open_worktree(run: Run, task_id: str, branch: str, head: str) -> tuple[Record | None, Worktree, int]:
    """Return the previous record, the worktree, and, if no record was left, the number of attempts according to git."""
    tasks = run.nodes.graph.tasks
    # The record is read first, because a worktree that an agent left on another branch is recreated and loses its
    # record. This run's own copy takes precedence over the file, which an agent may have changed.
    previous = run.nodes.records.get(task_id) or read_previous(run.git.repository, tasks, task_id, branch, head)
    worktree = run.git.worktrees.open_branch(branch, head)
    return previous, worktree, 0 if previous else count_attempts(run.git.repository, tasks[task_id], head)
