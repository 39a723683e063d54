"""The templates of the prompts: texts with placeholders, shipped with the coordinator or from the repository."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tasks_lib.errors import Fault, InputError
from tasks_lib.naming import show
from tasks_lib.suggestions import find_nearest

PromptName = Literal["task", "review", "conflict", "red", "changes"]

PLACEHOLDERS: Mapping[PromptName, Mapping[str, str]] = {
    "task": {
        "id": "the id of the task",
        "name": "its name",
        "path": "its file, relative to the worktree",
        "role": "the role of the agent",
        "branch": "the branch of the node",
        "target": "the name of the branch that work lands on",
        "attempt": "the number of the attempt, from 1",
        "task": "the whole task file, as a code block",
        "prerequisites": "what the tasks before it changed, with a heading",
        "earlier": "what happened in earlier attempts, with a heading",
        "instructions": "the project's AGENTS.md and other instructions, with headings",
        "finish": "how to finish, with a heading",
        "safe_exit": "how to stop safely, with a heading",
    },
    "review": {
        "id": "the id of the task",
        "name": "its name",
        "path": "its file, relative to the worktree",
        "branch": "the branch that is reviewed",
        "base": "the commit to compare it with",
        "task": "the whole task file, as a code block",
        "instructions": "the project's AGENTS.md and other instructions, with headings",
        "earlier": "what the last review found, with a heading",
        "verified": "which lines of `verify` pass on the branch as merged, with a heading",
        "report": "the form of findings and of acceptance criteria",
        "verdict": "the three lines that a review may end with",
    },
    "conflict": {
        "paths": "the paths in conflict, as a list",
        "theirs": "the commits on the other side, as a list",
        "ours": "the commits of the branch, as a list",
        "target": "the commit to merge",
        "intent": "what landed in these paths and what it was for, with a heading",
        "changes": "what both sides changed in these paths, with a heading",
        "check": "what is checked afterwards, and how to say that a change has to go",
    },
    "red": {
        "command": "the line that failed",
        "status": "how it ended",
        "tail": "the end of its output, as a code block",
        "log": "the file with all of it",
        "target": "the commit to merge",
    },
    "changes": {"report": "what the reviewer said, as a code block"},
}
"""The placeholders of each prompt, with their meaning. Their values may be empty."""

NEEDED: Mapping[PromptName, tuple[str, ...]] = {
    "task": ("task", "earlier", "finish", "safe_exit"),
    "review": ("task", "verdict"),
    "conflict": ("paths", "target"),
    "red": ("command", "tail"),
    "changes": ("report",),
}
"""The placeholders that an agent needs to know what to do, unless the text covers the same itself."""

SHIPPED: Mapping[PromptName, str] = {
    "task": """\
# Task $id: $name

You are the $role for this task. Work on branch `$branch`, in your own git worktree (the current directory).
This is attempt $attempt. The task file is `$path`:

$task

$prerequisites

$earlier

$instructions

$finish

$safe_exit
""",
    "review": """\
# Review of task $id: $name

The branch `$branch` is checked out in the current directory. To see its changes, run `git diff $base...HEAD`. Its task:

$task

$instructions

$earlier

$verified

## How to finish
Check that every acceptance criterion is met and covered by tests, and that nothing else was changed. Do not change any
files. Report what has to change, with file and line, in this form:
$report
End with exactly one of these lines:
$verdict
""",
    "conflict": """\
Your branch has merge conflicts with changes that landed in the meantime. Preserve the intent of both sides.

Conflicting paths:
$paths

Commits that landed:
$theirs

Your commits:
$ours

$intent

$changes

## How to resolve
Run `git merge $target` in your worktree (this commit is the current head, also in $COORDINATOR_TARGET). Resolve the
conflicts so that both changes work, run the tests, and commit the merge.
$check
""",
    "red": """\
Your work does not pass the project's verification when merged with the changes that landed in the meantime:
`$command` $status. The end of its output:

$tail

The full log is $log. To reproduce the failure, run `git merge $target` in your worktree (this commit is the current
head, also in $COORDINATOR_TARGET). Find and fix the cause, run the checks, and commit.
""",
    "changes": """\
A reviewer requests changes before your work can land:

$report

Make these changes, run the tests, and commit. If you disagree with any of them, explain why in your report.
""",
}

# Lower case only, so that $COORDINATOR_TARGET and other shell variables stay unchanged.
_PLACEHOLDER = re.compile(r"\$(?:(\$)|([a-z][a-z0-9_]*)|\{([a-z][^}\n]*)(\}?))")
_ALONE = re.compile(r"\s*\$(?:([a-z][a-z0-9_]*)|\{([a-z][a-z0-9_]*)\})\s*")


class TemplateFile(NamedTuple):
    """A repository's replacement for a prompt; `path` is relative to the repository."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Templates:
    """A text for each prompt, with known placeholders only. `warnings` are possible mistakes in them."""

    texts: Mapping[PromptName, str]
    warnings: tuple[Fault, ...] = ()

    def render(self, name: PromptName, values: Mapping[str, str]) -> str:
        """The text `name` with its placeholders replaced; `values` contains all of `PLACEHOLDERS[name]`.

        A line that consists only of a placeholder with an empty value is dropped, with the blank lines after it.
        Placeholders in values are not replaced. The result ends with one newline.
        """
        lines: list[str] = []
        is_dropping = False
        for line in self.texts[name].split("\n"):
            alone = _ALONE.fullmatch(line)
            if alone and not values[alone[1] or alone[2]]:
                is_dropping = True
            elif line.strip() or not is_dropping:
                is_dropping = False
                lines.append(_fill(line, values))
        return "\n".join(lines).rstrip() + "\n"


def _fill(line: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: found[1] or values[found[2] or found[3]], line)


DEFAULT = Templates(SHIPPED)


def read_templates(overrides: Mapping[PromptName, TemplateFile]) -> Templates:
    """The shipped texts, replaced by those in `overrides`.

    Raises InputError naming every unknown placeholder by file and line.
    """
    faults = [fault for name, file in overrides.items() for fault in _find_faults(name, file)]
    if faults:
        raise InputError(faults)
    texts = dict(SHIPPED)
    texts |= {name: file.text.removeprefix("\ufeff").replace("\r\n", "\n") for name, file in overrides.items()}
    warnings = tuple(fault for name, file in sorted(overrides.items()) for fault in _find_missing(name, file))
    return Templates(texts, warnings)


def _find_faults(name: PromptName, file: TemplateFile) -> Iterator[Fault]:
    if not file.text.strip():
        yield Fault(file.path, 0, f"is empty; write the prompt, or remove prompts.{name} from coordinator.yaml")
    for number, line in enumerate(file.text.split("\n"), 1):
        for found in _PLACEHOLDER.finditer(line):
            if message := _find_fault(name, found):
                yield Fault(file.path, number, message)


def _find_fault(name: PromptName, found: re.Match[str]) -> str:
    dollar, plain, braced, close = found.groups()
    word = plain or braced
    if dollar or (word in PLACEHOLDERS[name] and (plain or close)):
        return ""
    if braced and not close:
        return f"`{show(found[0])}` is never closed; write `}}` after the name, or `$$` for a dollar sign"
    near = find_nearest(word, PLACEHOLDERS[name])
    known = ", ".join(f"${one}" for one in PLACEHOLDERS[name])
    hint = f'. Did you mean "${near}"?' if near else f". The placeholders are {known}"
    return f'`{show(found[0])}` is not a placeholder of the prompt "{name}"; write `$$` for a dollar sign{hint}'


def _find_missing(name: PromptName, file: TemplateFile) -> Iterator[Fault]:
    used = {found[2] or found[3] for found in _PLACEHOLDER.finditer(file.text)}
    if missing := [one for one in NEEDED[name] if one not in used]:
        listed = ", ".join(f"${one} ({PLACEHOLDERS[name][one]})" for one in missing)
        yield Fault(file.path, 0, f"does not use {listed}; add it, unless the text covers it itself", True)
