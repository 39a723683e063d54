"""Prompts a session until its provider answers; a rate limit or an outage uses up no attempt, and no place if long."""

import asyncio
from dataclasses import dataclass, replace

from tasks_lib.agents.backend import ProviderState, Session, TurnEnd, TurnSpec
from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import digest_work
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.model import Stage, Task
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.node.session_place import runs_elsewhere
from tasks_lib.node.session_progress import count_spending
from tasks_lib.reporting.journal_events import Cause, JournalEvent
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.stopping import Interrupted
from tasks_lib.session.next_action import describe_pause, name_moment
from tasks_lib.session.spending import Spent

ASKED_AGAIN = "Your model's provider did not answer for a while. Continue with your task where you left off."


def find_provider(run: Run, task: Task, role: str) -> ProviderState:
    """What is known about the provider of a session with `role` for `task`, on this machine."""
    return run.agents.backend.find_provider(role, run.settings.model_for(task, role))


async def prompt_until_answered(
    context: AttemptContext, session: Session, prompt: str, turn: TurnSpec, role: str
) -> TurnEnd:
    """Run one turn of a session with `role` of this node; its spending is counted however it ends.

    If the provider limits requests or cannot be reached, it is prompted again in the same conversation, which does not
    use up an attempt. Stops the run and raises Interrupted if the provider has not answered for `watch.limit_seconds`,
    or if it refuses with an error that every other session would get as well.
    """
    run = context.run
    is_program = run.settings.agent.backend == "command"
    # A program may remember nothing of the turn that was cut short.
    again = f"{ASKED_AGAIN} Your prompt was:\n\n{prompt}" if is_program else ASKED_AGAIN
    silence = _Silence(is_program)
    await _wait_for_provider(context, role)
    while True:
        end = await _prompt_once(context, session, prompt, turn, role)
        refusal = end.refusal
        if end.is_limited and not refusal:
            if run.budgets.refuse_turn(context.record, context.record.attempt.session):
                return end
            silence.note(end, await run.git.call(digest_worktree, context.worktree), run.agents.clock())
            if end.limited_until and find_provider(run, context.task, role).answered_at > silence.since:
                return replace(end, is_limited=False)  # Others are answered meanwhile: it is about this session.
            if run.agents.clock() > silence.since + run.settings.watch.limit_seconds:
                refusal = _tell_limited(end.error, silence.since, run.settings.watch.limit_seconds)
        if refusal:
            run.stopping.halt(refusal)
            raise Interrupted
        if not end.is_limited:
            return end
        prompt = again
        await _wait_for_provider(context, role, end)


async def _wait_for_provider(context: AttemptContext, role: str, end: TurnEnd | None = None) -> None:
    """Wait until the provider may be asked again after a turn that ended with `end`.

    If that takes longer than `watch.suspend_seconds`, or may be about this session alone, the node gives its place to
    another one meanwhile. A session on another machine waits there.
    """
    run, is_suspended = context.run, False
    is_alone = end is not None and end.limited_until > 0
    before = run.board.node(context.task.id)
    with run.nodes.journal.waiting(context.task.id, Cause.LIMIT, run.agents.clock):
        while (until := _find_pause(context, role, end)) > (now := run.agents.clock()):
            is_long = is_alone or until > now + run.settings.watch.suspend_seconds
            if is_long and not is_suspended and not runs_elsewhere(context):
                is_suspended = True
                _show_detail(context, f"suspended until {name_moment(until)}{f': {end.error}' if end else ''}")
                context.slot_lease.release()
                run.changed.set()  # The scheduler can start a node that works with another provider.
            reason = "no answer" if is_alone else "rate limited"
            run.board.show(context.task.id, activity=describe_pause(until, reason))
            await asyncio.sleep(until - now)
    if is_suspended:
        with run.nodes.journal.waiting(context.task.id, Cause.SLOT, run.agents.clock):
            await context.slot_lease.acquire()
        _show_detail(context, before.detail if before else "")


def _find_pause(context: AttemptContext, role: str, end: TurnEnd | None) -> float:
    return max(find_provider(context.run, context.task, role).paused_until, end.limited_until if end else 0.0)


def _show_detail(context: AttemptContext, detail: str) -> None:
    board, node = context.run.board, context.run.board.node(context.task.id)
    if node:
        board.enter(node.id, Stage(node.stage), detail)


@dataclass
class _Silence:
    """Since when a provider has not answered, in seconds since the epoch.

    opencode counts its answers, and itself asks again during a turn. Of a program, only what it did is known.
    """

    is_program: bool
    since: float = 0.0
    work: str = ""

    def note(self, end: TurnEnd, work: str, now: float) -> None:
        """Note a turn that a limit ended at `now`, with a digest of the worktree's content."""
        has_answered = end.spent.calls > 0 or (self.is_program and work != self.work)
        first = now if self.is_program else now - end.seconds
        self.since = now if has_answered else self.since or first
        self.work = work


async def _prompt_once(context: AttemptContext, session: Session, prompt: str, turn: TurnSpec, role: str) -> TurnEnd:
    began = context.run.agents.clock()
    try:
        end = await session.prompt(prompt, turn)
    except BaseException:
        _note_turn(context, turn, role, context.view.spent, began, ended="it was stopped")
        count_spending(context, context.view.spent)
        raise
    ended = end.excess or end.stall or end.loop or ("" if end.status == 0 and not end.timed_out else end.error)
    _note_turn(context, turn, role, end.spent, began, stall=end.stall or end.loop, ended=ended)
    count_spending(context, end.spent)
    return end


def _note_turn(
    context: AttemptContext, turn: TurnSpec, role: str, spent: Spent, began: float, *, ended: str, stall: str = ""
) -> None:
    """Write a turn to the journal; `ended` says how it ended unless it ended by itself, `stall` what it was doing."""
    run = context.run
    run.nodes.journal.note(
        JournalEvent.TURNED,
        context.task.id,
        role=role,
        model=run.agents.backend.name_model(role, run.settings.model_for(context.task, role)),
        attempt=turn.attempt,
        turn=turn.turn,
        seconds=round(run.agents.clock() - began, 3),
        tokens=spent.tokens,
        cost=spent.cost,
        calls=spent.calls,
        stall=stall,
        ended=ended,
    )


def _tell_limited(error: str, since: float, limit_seconds: float) -> str:
    return (
        f"{error}; it has not answered since {name_moment(since)} and does not say when it will, and "
        f"watch.limit_seconds allows a wait of {limit_seconds:g} seconds; run again later to resume from "
        "what is kept"
    )


def digest_worktree(worktree: Worktree) -> str:
    """Return a digest of the worktree's content, to compare with another; "" while it cannot be read."""
    try:
        return digest_work(worktree.git)
    except GitError:
        return ""
