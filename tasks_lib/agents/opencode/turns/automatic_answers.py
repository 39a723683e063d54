"""Decides what an agent is told where a person would be asked, and when it is to go on."""

from pathlib import Path

from tasks_lib.session.events import Request

CONTINUE_PROMPT = "Your last answer was cut off, because it was too long. Go on where it ends, in smaller steps."
RESTARTED = (
    "The server that you work on died and was started again; the command that ran then was ended. Look at the worktree "
    "(`git status`) and go on with your task where you were."
)
LOST = "(What was said before in this conversation is lost. What was done is in the worktree and in git.)"
_SAFE_EXIT = (
    'If the task cannot be done without it, take the Safe Exit: `coordinator notify --level blocking "WHY"`, commit '
    "what you have, and end your turn."
)


def answer_request(request: Request, worktree: Path) -> str:
    """What stands in for a person's answer: nobody is there to ask."""
    if request.kind == "question":
        return (
            "Nobody is here to answer. Decide by the task file, and say in your report what you decided and why. "
            f"{_SAFE_EXIT}"
        )
    what = request.text or "this"
    if request.text.startswith("doom_loop"):
        return f"You made the same call again and again ({what}). Try another way. {_SAFE_EXIT}"
    return f"Not allowed here: {what}. Work inside {worktree} with what is there. {_SAFE_EXIT}"
