"""Decides what an agent gets as an answer when it asks a user, and how it is told to continue."""

from pathlib import Path

from tasks_lib.session.events import Request

CONTINUE_PROMPT = "Your last answer was cut off because it was too long. Continue where it ended, in smaller steps."
RESTARTED = (
    "The server that you run on died and was restarted; its running command was ended. Check the worktree "
    "(`git status`) and continue your task where you left off."
)
LOST = "(The earlier messages of this conversation are lost. The work done so far is in the worktree and in git.)"
_SAFE_EXIT = (
    'If the task cannot be done without it, take the Safe Exit: run `coordinator notify --level blocking "WHY"`, '
    "commit what you have, and end your turn."
)


def answer_request(request: Request, worktree: Path) -> str:
    """Return the answer to a request, because no user is there to answer."""
    if request.kind == "question":
        return (
            "Nobody is here to answer. Decide based on the task file, and report what you decided and why. "
            f"{_SAFE_EXIT}"
        )
    what = request.text or "this"
    if request.text.startswith("doom_loop"):
        return f"You made the same call again and again ({what}). Try something else. {_SAFE_EXIT}"
    return f"Not allowed here: {what}. Work inside {worktree} with what is available there. {_SAFE_EXIT}"
