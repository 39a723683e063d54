"""Writes what a session is told of a conflict that is coming: the paths, the other task, and what to do."""

from collections.abc import Sequence

from tasks_lib.prompts.agent_prompts import fence, quote_words
from tasks_lib.text import cut

FROM_COORDINATOR = "From coordinator, not from the user:"
"""How everything begins that a session is told without having been asked by a user."""
MOST_PATHS = 10
INTENT_CHARS = 800
DIFF_CHARS = 2_000


def write_conflict_warning(paths: Sequence[str], other: str, name: str, goal: str, diff: str) -> str:
    """Write the message about a coming conflict at `paths` with the task `other`.

    `name` is its name, `goal` its description, and `diff` what it has changed at these paths so far; both are cut.
    """
    listed = "\n".join(f"- {path}" for path in paths[:MOST_PATHS])
    rest = f"\n- … and {len(paths) - MOST_PATHS} more" if len(paths) > MOST_PATHS else ""
    begin = f"{FROM_COORDINATOR} another agent is changing the same lines as you for another task, at the same time."
    parts = [
        f"{begin} Your branches will conflict.",
        f"Paths:\n{listed}{rest}",
        f"The other task is `{other}`: {name}",
    ]
    if goal.strip():
        parts.append(f"Its description:\n{quote_words(goal, INTENT_CHARS)}")
    if diff.strip():
        parts.append(f"What it has changed at these paths so far:\n\n{fence(cut(diff, DIFF_CHARS), 'diff')}")
    parts.append(
        "Keep your own changes at these paths small, and compatible with these, as far as your task allows. Do not do "
        "the other task's work, and change nothing outside of your own. Whichever branch lands second gets the "
        "conflict back to resolve, so nothing has to be settled now. Continue with your task."
    )
    return "\n\n".join(parts)
