"""Prompts a session until its provider answers; waiting for a rate limit to end uses up no attempt."""

import time
from dataclasses import dataclass

from tasks_lib.agents.backend import Session, TurnEnd, TurnSpec
from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import digest_work
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.node.session_progress import count_spending
from tasks_lib.runtime.stopping import Interrupted
from tasks_lib.session.next_action import name_moment

ASKED_AGAIN = "Your model's provider did not answer for a while. Continue with your task where you left off."


async def prompt_until_answered(context: AttemptContext, session: Session, prompt: str, turn: TurnSpec) -> TurnEnd:
    """Run one turn of a session of this node; its spending is counted however it ends.

    If the provider limits requests, it is prompted again in the same conversation, which does not use up an attempt.
    Stops the run and raises Interrupted if the provider has not answered for `watch.limit_seconds`, or if it refuses
    with an error that every other session would get as well.
    """
    run = context.run
    is_program = run.settings.agent.backend == "command"
    # A program may remember nothing of the turn that was cut short.
    again = f"{ASKED_AGAIN} Your prompt was:\n\n{prompt}" if is_program else ASKED_AGAIN
    silence = _Silence(is_program)
    while True:
        end = await _prompt_once(context, session, prompt, turn)
        refusal = end.refusal
        if end.is_limited and not refusal:
            if run.budgets.refuse_turn(context.record, context.record.attempt.session):
                return end
            silence.note(end, await run.git.call(digest_worktree, context.worktree), time.time())
            if time.time() > silence.since + run.settings.watch.limit_seconds:
                refusal = _tell_limited(end.error, silence.since, run.settings.watch.limit_seconds)
        if refusal:
            run.stopping.halt(refusal)
            raise Interrupted
        if not end.is_limited:
            return end
        prompt = again


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


async def _prompt_once(context: AttemptContext, session: Session, prompt: str, turn: TurnSpec) -> TurnEnd:
    try:
        end = await session.prompt(prompt, turn)
    except BaseException:
        count_spending(context, context.view.spent)
        raise
    count_spending(context, end.spent)
    return end


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
