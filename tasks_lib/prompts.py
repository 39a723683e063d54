"""Writes what an agent is told: the task, what came before, how to finish and how to stop safely."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks_lib.model import Task

MAX_LOG_CHARS = 6_000
MAX_LISTED = 20


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """What a landed prerequisite left: its `summary` and git's `diffstat` of its merge."""

    id: str
    name: str
    summary: str
    diffstat: str


@dataclass(frozen=True, slots=True)
class Setting:
    """Where an attempt takes place; `notes` are those of earlier attempts and turns, oldest first."""

    branch: str
    target: str
    attempt: int
    role: str
    is_resumed: bool = False
    notes: tuple[str, ...] = ()


def write_task_prompt(task: Task, text: str, setting: Setting, before: Sequence[Prerequisite] = ()) -> str:
    """The first prompt of an attempt; `text` is the task file as it stands at the head."""
    parts = [
        f"# Task {task.id}: {task.name}",
        (
            f"You work as {setting.role} on branch `{setting.branch}`, in a git worktree of your own (the current "
            f"directory). This is attempt {setting.attempt}. The task file is `{task.path}`:"
        ),
        fence(text, "markdown"),
        _describe_prerequisites(before),
        _describe_earlier(setting),
        _explain_review(task) if task.is_review else _explain_finish(task),
        _explain_safe_exit(task),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def fence(text: str, language: str = "") -> str:
    """`text` as a code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in _runs_of_backticks(text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{text.rstrip()}\n{marks}"


def _runs_of_backticks(text: str) -> list[str]:
    return [part for part in "".join(c if c == "`" else " " for c in text).split() if part]


def _describe_prerequisites(before: Sequence[Prerequisite]) -> str:
    if not before:
        return ""
    parts = ["## What the tasks before this one changed"]
    for one in before[:MAX_LISTED]:
        parts.append(f"### {one.id}: {one.name}")
        parts += [part for part in (one.summary.strip(), fence(one.diffstat) if one.diffstat else "") if part]
    if len(before) > MAX_LISTED:
        parts.append(f"… and {len(before) - MAX_LISTED} more; `git log --first-parent` tells.")
    return "\n\n".join(parts)


def _describe_earlier(setting: Setting) -> str:
    parts: list[str] = []
    if setting.notes:
        parts.append("## What happened before, oldest first")
        parts += [f"- {note}" if "\n" not in note else note for note in setting.notes]
    if setting.is_resumed:
        parts.append(
            "The worktree holds what an earlier session left: look at `git status` and `git log` first and go on "
            "from there. Others may have landed work since: `git merge $COORDINATOR_TARGET` brings it in."
        )
    return "\n\n".join(parts)


def _explain_finish(task: Task) -> str:
    return f"""## How to finish
1. Check every acceptance criterion; run the project's tests and checks.
2. Commit everything that belongs to the task: `git commit -m "feat({task.id}): …"`. Leave no uncommitted file.
3. End with a short report of what you did; it becomes the task's Summary.

Do not merge into another branch, do not push, do not edit other task files. Your work is tested as merged; if it
conflicts or fails there, it comes back to you."""


def _explain_review(task: Task) -> str:
    return f"""## How to finish
This is a review: look at the work that task {task.id} names and say what you found. Changing files is not needed.
End your report with one line, exactly one of:
Verdict: approved
Verdict: approved with changes
Verdict: changes requested"""


def _explain_safe_exit(task: Task) -> str:
    return f"""## Safe Exit
Stop instead of forcing it when verification failed three times, when something outside blocks you, when the task is
ambiguous, or when it grows beyond its scope. Commit coherent partial work, then say what you tried to do, what went
wrong (the exact error), what you tried, and what would resolve it:
    coordinator notify --level blocking "…"
or set `status: blocked` and write it under `## Notes` in `{task.path}`, and commit that as
`blocked({task.id}): <reason>`. Then exit."""


def write_conflict_prompt(
    paths: Sequence[str], head_commits: Sequence[str], branch_commits: Sequence[str], target: str
) -> str:
    """The further turn of a session whose branch conflicts with the head; `target` is the head's commit."""
    listed = "\n".join(f"- {path}" for path in paths[:MAX_LISTED])
    return f"""Your branch does not merge: others landed changes to the same lines. Both sides' intent has to stand.

Conflicting paths:
{listed}

Landed on the other side:
{_bullets(head_commits)}

Yours:
{_bullets(branch_commits)}

Run `git merge {target}` in your worktree (that commit is the current head, also in $COORDINATOR_TARGET), resolve the
conflict so that both changes work, run the tests, and commit the merge."""


def write_red_prompt(command: str, status: str, tail: str, log: str, target: str) -> str:
    """The further turn of a session whose work fails `verify` as merged with the head, commit `target`."""
    return f"""Your work, merged with what others landed meanwhile, does not pass the project's verification:
`{command}` {status}. The end of its output:

{fence(tail[-MAX_LOG_CHARS:])}

The whole log is {log}. To see it as it was tested, run `git merge {target}` in your worktree (that commit is the
current head, also in $COORDINATOR_TARGET). Find the cause, mend it, run the checks, and commit."""


def write_review_prompt(task: Task, text: str, branch: str, base: str) -> str:
    """What the reviewer of a branch is told; it works in a worktree of its own at the branch's head."""
    return f"""# Review of task {task.id}: {task.name}

The branch `{branch}` is checked out in the current directory. What it changes: `git diff {base}...HEAD`. Its task:

{fence(text, "markdown")}

Check that every acceptance criterion is met, that the tests test it, and that nothing else was changed. Change no
files. Say what has to change, with file and line. End with one line, exactly one of:
Verdict: approved
Verdict: approved with changes
Verdict: changes requested
"""


def write_changes_prompt(report: str) -> str:
    """The further turn of a session whose work a reviewer sent back with `report`."""
    return f"""A reviewer asks for changes before your work can land:

{fence(report[-MAX_LOG_CHARS:])}

Make them, run the tests, and commit. Where you disagree, say why in your report."""


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines[:MAX_LISTED]) or "- (nothing of its own)"
