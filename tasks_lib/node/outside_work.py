"""Tells users and agents what was done outside of a node's worktree during a turn."""

from tasks_lib.agents.backend import TurnEnd
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.session.outside_work import describe_outside, warn_agent
from tasks_lib.text import escape_unprintable

MAX_NOTES = 20


def note_outside_work(context: AttemptContext, checkout: str, end: TurnEnd) -> None:
    """Note what a turn did outside of the worktree; `checkout` says what changed in the user's. Call from a thread."""
    said = [checkout] if checkout else []
    if end.outside:
        places = escape_unprintable(describe_outside(end.outside))
        said.append(f"tools worked outside of the worktree: {places}")
        context.run.say_from_thread(f"{context.task.id}: {said[-1]}. The run continues; nothing there lands.")
    if not said:
        return
    context.reports.outside += tuple(said)
    turn = f"Turn {context.record.turn.number} of attempt {context.record.attempt.number}"
    context.note(notes=(*context.record.notes, *(f"{turn}: {one}" for one in said))[-MAX_NOTES:])


def tell_outside_work(context: AttemptContext, prompt: str) -> str:
    """Return `prompt` with what was noticed outside of the worktree since the last one."""
    said, context.reports.outside = warn_agent(context.reports.outside), ()
    return f"{said}\n\n{prompt}" if said else prompt
