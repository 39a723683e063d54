"""Writes the brief for a person who takes a task: what an agent's prompt says, without how an agent has to work."""

from collections.abc import Sequence

from tasks_lib.model import Task
from tasks_lib.prompts.agent_prompts import Prerequisite, describe_prerequisites, fence

PREPARES = "`coordinator take` runs this in the worktree:"


def write_brief(
    task: Task,
    text: str,
    before: Sequence[Prerequisite],
    notes: Sequence[str],
    *,
    branch: str,
    worktree: str,
    setup: Sequence[str],
) -> str:
    """The brief as markdown; `text` is the task file at the head, `notes` are those of earlier attempts."""
    finish = (
        f"Commit your work on `{branch}`, then run `coordinator land {task.id}`. It is reviewed and verified as an "
        "agent's work is, and merged. If it conflicts or fails verification, your worktree stays as it is, and you are "
        "told what to fix."
    )
    parts = [
        f"# Task {task.id}: {task.name}",
        f"You work on branch `{branch}`, in the worktree {worktree}. The task file is `{task.path}`:",
        fence(text, "markdown"),
        describe_prerequisites(before),
        "\n".join(("## What happened before", "", *(f"- {note}" for note in notes))) if notes else "",
        "\n\n".join(("## Setup", PREPARES, fence("\n".join(setup), "sh"))) if setup else "",
        "## How to finish",
        finish,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
