"""Writes the prompt for a session whose branch conflicts with the head: both sides, and what the other tasks meant."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks_lib.prompts.agent_prompts import MAX_LISTED, fence, quote_words
from tasks_lib.prompts.templates import DEFAULT, Templates
from tasks_lib.text import tell_rest

MAX_INTENT_CHARS = 1_500
"""How much of another task's goal, and of its Summary, is in the prompt; both are files in the repository."""
MAX_TASKS = 6
MAX_DIFF_CHARS = 4_000
"""How much of the changes of one side in one path is in the prompt."""
MAX_CHANGES_CHARS = 24_000
DROPPED_FORM = "Dropped: <path>: <why>"
_SUBMODULE = "submodule"


@dataclass(frozen=True, slots=True)
class OtherWork:
    """A commit on the head that changed conflicting `paths`: that of the task `id`, or a person's if that is "".

    `commit` is abbreviated; `goal` and `summary` are sections of the task's file, "" where there are none.
    """

    commit: str
    subject: str
    paths: tuple[str, ...]
    id: str = ""
    name: str = ""
    goal: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True)
class ConflictingPath:
    """A path in conflict: what is there at the merge base and on both sides, and what each side did since.

    What is there is `file`, `executable`, `link`, `submodule` or `folder`, "" for nothing. `head_from` and
    `branch_from` are the names that a side renamed it from, "" if it did not. The diffs are git's.
    """

    path: str
    base: str = ""
    head: str = ""
    branch: str = ""
    head_from: str = ""
    branch_from: str = ""
    head_diff: str = ""
    branch_diff: str = ""


@dataclass(frozen=True, slots=True)
class ConflictFacts:
    """What a session needs to know of a conflict besides the paths and the commits.

    `base` is the abbreviated merge base, "" for none; `works` are newest first.
    """

    base: str = ""
    works: tuple[OtherWork, ...] = ()
    paths: tuple[ConflictingPath, ...] = ()


NO_FACTS = ConflictFacts()


def write_conflict_prompt(
    paths: Sequence[str],
    head_commits: Sequence[str],
    branch_commits: Sequence[str],
    target: str,
    templates: Templates = DEFAULT,
    facts: ConflictFacts = NO_FACTS,
) -> str:
    """The prompt for a session whose branch conflicts with the head; `target` is the head's commit."""
    values = {
        "paths": list_paths(paths, facts),
        "theirs": list_commits(head_commits),
        "ours": list_commits(branch_commits),
        "target": target,
        "intent": describe_intent(facts),
        "changes": _describe_changes(facts),
        "check": CHECK,
    }
    return templates.render("conflict", values)


CHECK = f"""\
Afterwards it is checked that no change of either side is missing from the result, however you resolved the conflicts:
by a merge, by a rebase, or by hand. If one has to go, say so in your report, as `{DROPPED_FORM}`."""


def list_paths(paths: Sequence[str], facts: ConflictFacts = NO_FACTS) -> str:
    """The conflicting paths as a list, with what kind of conflict each is, if it is known."""
    known = {one.path: describe_kind(one) for one in facts.paths}
    lines = [f"- {path}{': ' + known[path] if known.get(path) else ''}" for path in paths[:MAX_LISTED]]
    return "\n".join(lines) + tell_rest(len(paths), MAX_LISTED, "\n… and ")


def list_commits(lines: Sequence[str]) -> str:
    """Commits as a list, which says so if there are none."""
    return "\n".join(f"- {line}" for line in lines[:MAX_LISTED]) or "- (none)"


def describe_kind(one: ConflictingPath) -> str:
    """What each side did to a path that is in conflict, such as `changed on both sides`."""
    parts = [
        f"{who} renamed it from {old}" for who, old in (("what landed", one.head_from), ("you", one.branch_from)) if old
    ]
    if _SUBMODULE in (one.head, one.branch):
        parts.append("a submodule; choose a commit of it that has both changes")
    elif one.head and one.branch and one.head != one.branch:
        parts.append(f"{_say(one.head)} in what landed, {_say(one.branch)} on your branch")
    elif one.base and not one.head and one.branch:
        parts.append("deleted or renamed by what landed, changed on your branch")
    elif one.base and one.head and not one.branch:
        parts.append("changed by what landed, deleted or renamed on your branch")
    elif not one.base and one.head and one.branch:
        parts.append("added on both sides")
    elif one.head and one.branch:
        is_binary = any(diff.rstrip().endswith(" differ") for diff in (one.head_diff, one.branch_diff))
        parts.append("changed on both sides" + ("; it is not a text, so build it anew from both" if is_binary else ""))
    return "; ".join(parts)


def _say(kind: str) -> str:
    return {"link": "a symbolic link", "executable": "an executable file"}.get(kind, f"a {kind}")


def describe_intent(facts: ConflictFacts) -> str:
    """What the tasks and people wanted that changed the conflicting paths on the head, with a heading."""
    if not facts.works:
        return ""
    parts = ["## What landed there, and what it was for"]
    tasks, people = [one for one in facts.works if one.id], [one for one in facts.works if not one.id]
    for one in tasks[:MAX_TASKS]:
        parts.append(f"### Task {one.id}: {one.name}\nCommit {one.commit} changed {_join(one.paths)}.")
        parts += [f"Its goal:\n{quote_words(one.goal, MAX_INTENT_CHARS)}"] if one.goal.strip() else []
        parts += [f"Its report:\n{quote_words(one.summary, MAX_INTENT_CHARS)}"] if one.summary.strip() else []
    if rest := tell_rest(len(tasks), MAX_TASKS, "… and tasks in "):
        parts.append(f"{rest} commits; see `git log --first-parent`.")
    if people:
        said = [f"- {one.commit} {one.subject} ({_join(one.paths)})" for one in people[:MAX_LISTED]]
        parts.append("### Commits without a task\n" + "\n".join(said) + tell_rest(len(people), MAX_LISTED, "\n… and "))
    return "\n\n".join(parts)


def _describe_changes(facts: ConflictFacts) -> str:
    """The changes of both sides in the conflicting paths, with a heading; bounded."""
    parts: list[str] = []
    room = MAX_CHANGES_CHARS
    for one in facts.paths:
        for who, diff in (("what landed", one.head_diff), ("your branch", one.branch_diff)):
            if not diff.strip() or room <= 0:
                continue
            shown = _cut_lines(diff, min(MAX_DIFF_CHARS, room))
            room -= len(shown)
            parts.append(f"{one.path}, {who}:\n{fence(shown, 'diff')}")
    if not parts:
        return ""
    rest = (
        "" if room > 0 else f"\n\nThe rest is in `git diff {facts.base} HEAD` and in `git diff {facts.base} <target>`."
    )
    heading = f"## What both sides changed there since {facts.base or 'they have nothing in common'}"
    return heading + "\n\n" + "\n\n".join(parts) + rest


def _cut_lines(text: str, chars: int) -> str:
    """The first whole lines of `text` that fit, and how many more there are."""
    lines, kept, size = text.rstrip("\n").split("\n"), 0, 0
    while kept < len(lines) and size + len(lines[kept]) + 1 <= chars:
        size += len(lines[kept]) + 1
        kept += 1
    return "\n".join(lines[:kept]) + tell_rest(len(lines), kept, "\n… and ") + (" lines" if kept < len(lines) else "")


def _join(paths: Sequence[str]) -> str:
    return ", ".join(paths[:MAX_LISTED]) + tell_rest(len(paths), MAX_LISTED)
