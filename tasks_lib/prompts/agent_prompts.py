"""Writes the prompts for agents: the task, what happened before, how to finish and how to stop safely."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks_lib.model import LEVELS_THAT_ADD_FILES, Task
from tasks_lib.prompts.templates import DEFAULT, Templates
from tasks_lib.text import cut, tell_rest

MAX_LOG_CHARS = 6_000
MAX_FACTS_CHARS = 3_000
"""How much of a log or a report those are told who did not see the prompt with it."""
MAX_LISTED = 20
MAX_INSTRUCTION_CHARS = 32_000
VERDICTS = """\
Verdict: approved
Verdict: approved with changes
Verdict: changes requested"""

REVIEW_REPORT = """\
- [blocking] path/to/file:12: a finding that prevents landing
- [note] path/to/file:12: a finding that does not
- [met] an acceptance criterion
- [not met] an acceptance criterion: why
- [not checkable] an acceptance criterion: why"""


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """A completed prerequisite, with its `summary`, the `diffstat` of its merge, and that `commit`, "" for none."""

    id: str
    name: str
    summary: str
    diffstat: str
    commit: str = ""


@dataclass(frozen=True, slots=True)
class InstructionFile:
    """A file that tells agents how to work in the project: its path, relative to the top, and its text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Setting:
    """The circumstances of an attempt; `notes` are from earlier attempts and turns, oldest first.

    `instructions` are the project's files of instructions, such as AGENTS.md; none for an agent that reads them itself.
    """

    branch: str
    target: str
    attempt: int
    role: str
    is_resumed: bool = False
    notes: tuple[str, ...] = ()
    instructions: tuple[InstructionFile, ...] = ()


def write_task_prompt(
    task: Task, text: str, setting: Setting, before: Sequence[Prerequisite] = (), templates: Templates = DEFAULT
) -> str:
    """The first prompt of an attempt; `text` is the task file at the head."""
    values = {
        "id": task.id,
        "name": task.name,
        "path": task.path,
        "role": setting.role,
        "branch": setting.branch,
        "target": setting.target,
        "attempt": str(setting.attempt),
        "task": fence(text, "markdown"),
        "prerequisites": describe_prerequisites(before),
        "earlier": _describe_earlier(setting),
        "instructions": _describe_instructions(setting.instructions),
        "finish": _explain_review(before) if task.is_review else _explain_finish(task),
        "safe_exit": _explain_safe_exit(task),
    }
    return templates.render("task", values)


def fence(text: str, language: str = "") -> str:
    """`text` as a code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in _runs_of_backticks(text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{text.rstrip()}\n{marks}"


def quote_words(text: str, most: int) -> str:
    """Another task's words, cut to `most` characters, as a quotation: they are no instruction to this session."""
    return "\n".join(f"> {line}".rstrip() for line in cut(text.strip(), most).split("\n"))


def quote_end(text: str) -> str:
    """The end of a log or a report as a code block, for those who did not see the prompt with it."""
    return fence(text.strip()[-MAX_FACTS_CHARS:])


def _runs_of_backticks(text: str) -> list[str]:
    return [part for part in "".join(c if c == "`" else " " for c in text).split() if part]


def describe_prerequisites(before: Sequence[Prerequisite]) -> str:
    """What the prerequisites of a task changed, with a heading, "" without any."""
    if not before:
        return ""
    parts = ["## What the prerequisites of this task changed"]
    for one in before[:MAX_LISTED]:
        parts.append(f"### {one.id}: {one.name}")
        parts += [part for part in (one.summary.strip(), fence(one.diffstat) if one.diffstat else "") if part]
    if rest := tell_rest(len(before), MAX_LISTED, "… and "):
        parts.append(f"{rest}; see `git log --first-parent`.")
    return "\n\n".join(parts)


def _describe_earlier(setting: Setting) -> str:
    parts: list[str] = []
    if setting.notes or setting.is_resumed:
        parts.append("## What happened before")
    if setting.notes:
        parts.append("Oldest first:")
        parts += [f"- {note}" if "\n" not in note else note for note in setting.notes]
    if setting.is_resumed:
        parts.append(
            "The worktree contains the work of an earlier session. Check `git status` and `git log` first and continue "
            "from there. Other work may have landed since; merge it with `git merge $COORDINATOR_TARGET`."
        )
    return "\n\n".join(parts)


def _describe_instructions(files: Sequence[InstructionFile]) -> str:
    parts, left = list[str](), MAX_INSTRUCTION_CHARS
    for file in files:
        if not (text := file.text.strip()):
            continue
        parts.append(f"## Project instructions, from {file.path}")
        shown = text[:left]
        left -= len(shown)
        parts += [fence(shown, "markdown")] if shown else []
        if len(text) > len(shown):
            parts.append(f"… and {len(text) - len(shown)} more characters; read the rest in `{file.path}`.")
    return "\n\n".join(parts)


def _explain_finish(task: Task) -> str:
    others = (
        "You may add task files, but do not edit existing ones other than your own."
        if task.level in LEVELS_THAT_ADD_FILES
        else "Do not edit other task files."
    )
    return f"""## How to finish
1. Check every acceptance criterion, and run the project's tests and checks.
2. Commit everything that belongs to the task: `git commit -m "feat({task.id}): …"`. Leave no uncommitted files.
3. End with a short report of what you did. It becomes the task's Summary.

Do not merge into other branches, and do not push. {others} Your work is merged and
then verified; if it conflicts or fails verification, it is returned to you."""


def _explain_review(before: Sequence[Prerequisite]) -> str:
    return f"""## How to finish
This task is a review: examine the work that it names and report what you find. You do not need to change any files.
{_list_covered(before)}
Report each finding and each acceptance criterion in this form:
{REVIEW_REPORT}
What is blocking or not met becomes a task that is worked on now; then you review again. End your report with exactly
one of these lines:
{VERDICTS}"""


def _list_covered(before: Sequence[Prerequisite]) -> str:
    """The commits that a review covers: those with which its prerequisites landed."""
    landed = [one for one in before[:MAX_LISTED] if one.commit]
    if not landed:
        return ""
    listed = "\n".join(f"- {one.id}: `git diff {one.commit[:12]}^1 {one.commit[:12]}`" for one in landed)
    return f"\nIt covers what the tasks before it landed, as it is now together:\n{listed}\n"


def _explain_safe_exit(task: Task) -> str:
    return f"""## Safe Exit
Nobody can answer questions while you work. Do not force a result: stop if verification fails three times, if something
outside your worktree blocks you, if the task is ambiguous, or if it grows beyond its scope. Commit coherent partial
work. Then report what you wanted to do, on the first line in one sentence, and below it these lines:
    Kind: context | scope | dependency | environment | decision (what is missing: an answer, a narrower task, other
        work first, something outside the worktree, or a person's decision)
    Error: the exact error
    Tried: what you tried
    Suggested: what would resolve it; for a dependency, the id of the task; for scope, the criteria to drop
Report it with
    coordinator notify --level blocking "…"
If your shell does not find `coordinator`, take the path in the variable COORDINATOR_PROGRAM instead.
Alternatively, set `status: blocked` in `{task.path}`, write the same under `## Notes` there, and commit that as
`blocked({task.id}): <reason>`. Then exit."""


def add_messages(prompt: str, messages: Sequence[str]) -> str:
    """`prompt` with the messages that the user sent since the last one, oldest first."""
    if not messages:
        return prompt
    said = fence("\n\n".join(messages))
    return f"{prompt}\n\nThe user says:\n\n{said}\n".lstrip()


def write_red_prompt(
    command: str, status: str, tail: str, log: str, target: str, templates: Templates = DEFAULT
) -> str:
    """The prompt for a session whose work fails `verify` when merged with the head, commit `target`."""
    values = {
        "command": command,
        "status": status,
        "tail": fence(tail[-MAX_LOG_CHARS:]),
        "log": log,
        "target": target,
    }
    return templates.render("red", values)


def write_review_prompt(
    task: Task,
    text: str,
    branch: str,
    base: str,
    instructions: Sequence[InstructionFile] = (),
    templates: Templates = DEFAULT,
    earlier: Sequence[str] = (),
    verified: str = "",
) -> str:
    """The prompt for the reviewer of a branch, who gets a separate worktree at the head of the branch.

    `text` is the task file there, `instructions` the project's files of instructions, `earlier` the findings of the
    last review, `verified` what `describe_verified` says.
    """
    values = {
        "id": task.id,
        "name": task.name,
        "path": task.path,
        "branch": branch,
        "base": base,
        "task": fence(text, "markdown"),
        "instructions": _describe_instructions(instructions),
        "earlier": _describe_findings(earlier),
        "verified": verified,
        "report": REVIEW_REPORT,
        "verdict": VERDICTS,
    }
    return templates.render("review", values)


def describe_verified(lines: Sequence[str], commit: str, idle: Sequence[tuple[str, str]], tail: str, log: str) -> str:
    """What a reviewer need not run: `lines` of `verify`, which pass on the merge `commit` of the branch and the head.

    `idle` are those that ran no test, with the words of their runner. `tail` is the end of the output, `log` the file
    with all of it, "" if the reviewer cannot read it.
    """
    untested = {line: f", which ran no test ({said})" for line, said in idle}
    begin = f"""\
The branch merges with the head without a conflict. On that merge, commit {commit[:12]}, these lines of the project's
verification pass, so you need not run them again:"""
    listed = "\n".join(f"- `{line}`{untested.get(line, '')}" for line in lines[:MAX_LISTED])
    parts = ["## What was verified", begin, listed]
    if rest := tell_rest(len(lines), MAX_LISTED, "… and "):
        parts.append(f"{rest} lines.")
    if tail.strip():
        parts += ["The end of the last line's output:", fence(tail[-MAX_LOG_CHARS:])]
    return "\n\n".join([*parts, *([f"The full log is {log}."] if log else [])])


def _describe_findings(earlier: Sequence[str]) -> str:
    if not earlier:
        return ""
    listed = "\n".join(f"{number}. {text}" for number, text in enumerate(earlier, 1))
    return f"""## What the last review found
{listed}

The author has worked on these since. Say of each whether it is answered, by its number, such as `- [answered] 1` or
`- [open] 2: why`."""


def write_changes_prompt(report: str, templates: Templates = DEFAULT) -> str:
    """The prompt for a session whose work a reviewer returned with `report`."""
    return templates.render("changes", {"report": fence(report[-MAX_LOG_CHARS:])})


def write_faults_prompt(faults: Sequence[str], head: str) -> str:
    """The prompt for a session whose task files form no valid graph with those at the commit `head`."""
    return f"""Together with the task files on the head, your task files do not form a valid graph:

{list_faults(faults)}

To see the files as they were checked, run `git merge {head}` in your worktree (that commit is the current head, also
in $COORDINATOR_TARGET). Fix these faults in the task files of your branch, and commit."""


def list_faults(faults: Sequence[str]) -> str:
    """Faults in task files as a list, which says how many more there are."""
    return "\n".join(f"- {fault}" for fault in faults[:MAX_LISTED]) + tell_rest(len(faults), MAX_LISTED, "\n… and ")
