"""Checks from the outside, by what git and the machine show, whether finished runs kept the coordinator's promises."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tasks_lib.model import LEVELS_THAT_ADD_FILES, OutcomeName, Status, Task
from tasks_lib.naming import flatten
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.reporting.task_edit_rules import (
    EDITS,
    judge_adoption,
    judge_edit,
    judge_edit_statuses,
    list_other_lines,
    may_follow_up,
    may_spawn,
    without_dependencies,
)
from tasks_lib.text import fold, read_count

_SHORT = 10
_VERIFIED = re.compile(r"[0-9a-f]{16}|none")
_NAMED = re.compile(r"[a-z]+\((.+?)\): ")
_ASSIGNED = re.compile(r"(role|model)\s*:")
_STARTS = {
    "Merge ": "merge", "Check ": "check", "blocked(": "blocker", "resolved(": "resolution", "spawned(": "spawned",
    **{f"{kind}(": kind for kind in EDITS},
}  # fmt: skip
_NEEDED = {"resolution": (), "spawned": (), **dict.fromkeys(("blocker", *EDITS), ("Attempt", "Run", "Session"))}
"""The trailers that a kind of commit needs besides `Task`; the others need `Verified` too."""
_ENDED_WITH_COMMIT = (OutcomeName.MERGED, OutcomeName.CHECKED)
_ENDED_BADLY = (OutcomeName.BLOCKED, OutcomeName.FAILED, OutcomeName.ABORTED)


class Rule(StrEnum):
    """A promise of the coordinator, as reported when it is broken."""

    FORM = "every commit of the coordinator names its node and how it was made"
    COMPLETED = "a node becomes completed with its own commit, and stays completed"
    ORDER = "a node lands after everything that it depends on"
    MERGE = "a merge contains what git merges, plus the intended lines of task files"
    GREEN = "everything that landed passes verify"
    LEFT = "landed nodes and killed runs leave nothing behind"
    KEPT = "kept states can be read"
    REPORT = "a run's report matches what happened"


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise; `where` is a commit, a path or a ref."""

    rule: Rule
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.rule})"


@dataclass(frozen=True, slots=True)
class FileChange:
    """A task file that a commit changes: its text before and after, None where it does not exist."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """One commit of the coordinator, compared with its first parent.

    `before` and `after` are the tasks by id, `files` the task files that differ. `strange` says what is wrong with any
    other path. `is_nothing_new`: the second parent was already part of the first.
    """

    id: str
    subject: str
    parents: tuple[str, ...]
    trailers: Mapping[str, str]
    before: Mapping[str, Task] = field(default_factory=dict[str, Task])
    after: Mapping[str, Task] = field(default_factory=dict[str, Task])
    files: tuple[FileChange, ...] = ()
    strange: tuple[str, ...] = ()
    is_nothing_new: bool = False

    @property
    def task_id(self) -> str:
        return self.trailers.get("Task", "")

    @property
    def kind(self) -> str:
        """`merge`, `check`, `blocker`, `resolution`, `spawned`, one of `EDITS`, "" for a foreign one."""
        return next((kind for start, kind in _STARTS.items() if self.subject.startswith(start)), "")

    def __str__(self) -> str:
        return f"{self.id[:_SHORT]} ({self.subject})"


def is_ours(subject: str, trailers: Mapping[str, str]) -> bool:
    """Whether a commit claims to be the coordinator's; a trailer `Task:` alone may be the user's."""
    if not trailers.get("Task"):
        return False
    is_shaped = subject.startswith(tuple(_STARTS))
    return is_shaped or any(trailers.get(name) for name in ("Attempt", "Session", "Verified"))


def judge_commit(commit: CommitFacts) -> list[Violation]:
    """Find what is wrong with one commit of the coordinator."""
    found = [
        *(Violation(Rule.FORM, str(commit), what) for what in _judge_form(commit)),
        *(Violation(Rule.COMPLETED, str(commit), what) for what in _judge_statuses(commit)),
        *(Violation(Rule.ORDER, str(commit), what) for what in _judge_order(commit)),
        *(Violation(Rule.MERGE, str(commit), what) for what in commit.strange),
    ]
    return [*found, *(Violation(Rule.MERGE, str(commit), what) for what in _judge_files(commit))]


def _judge_form(commit: CommitFacts) -> Iterator[str]:
    if not commit.kind:
        yield "its subject is not one of the coordinator's"
        return
    for name in _NEEDED.get(commit.kind, ("Attempt", "Run", "Session", "Verified")):
        if not commit.trailers.get(name):
            yield f"has no trailer {name}"
    attempt = commit.trailers.get("Attempt", "1")
    if not read_count(attempt):
        yield f"its Attempt is {attempt!r}, which is not the number of an attempt"
    verified = commit.trailers.get("Verified", "none")
    if not _VERIFIED.fullmatch(verified):
        yield f"its Verified is {verified!r}, which is not a digest"
    known = commit.after if commit.kind == "spawned" else commit.before
    if known and commit.task_id not in known:
        yield f'its Task is "{commit.task_id}", which no task file {"has" if known is commit.after else "had"}'
    elif (task := known.get(commit.task_id)) and not _is_named(commit, task):
        yield f'its subject does not contain "{task.id}" and its name'
    yield from _judge_parents(commit)


def _is_named(commit: CommitFacts, task: Task) -> bool:
    name = fold(task.name)
    match commit.kind:
        case "blocker" | "resolution" | "spawned" | "narrowed" | "waits" | "requested":
            said = _NAMED.match(commit.subject)
            return said is not None and said[1] == task.id
        case "check":
            return commit.subject == f"Check {task.id}: {name}"
        case _:
            branch, found, rest = commit.subject.removeprefix("Merge ").partition(": ")
            # If two ids cannot both be branches, one of them has dashes and a digest.
            return bool(found) and rest == name and flatten(task.id).casefold() in flatten(branch).casefold()


def _judge_parents(commit: CommitFacts) -> Iterator[str]:
    is_plain = commit.kind != "merge" or len(commit.parents) == 1
    if commit.kind != "merge" and len(commit.parents) != 1:
        yield f"has {len(commit.parents)} parents instead of one"
    elif commit.kind == "merge" and len(commit.parents) not in (1, 2):
        yield f"has {len(commit.parents)} parents instead of the head and the branch"
    elif not is_plain and commit.is_nothing_new:
        yield "merges what was already on the head"


def _judge_statuses(commit: CommitFacts) -> Iterator[str]:
    before = {one for one, task in commit.before.items() if task.is_completed}
    after = {one for one, task in commit.after.items() if task.is_completed}
    own = {commit.task_id} if commit.kind in ("merge", "check", "resolution") else set[str]()
    for one in sorted(after - before - own):
        yield f'completes "{one}", which is another node'
    for one in sorted(before - after):
        yield f'"{one}" was completed and no longer is'
    for one in sorted(own):
        if one in before:
            yield f'"{one}" had already landed'
        elif one not in after:
            yield f'does not mark "{one}" as completed'
    if commit.kind == "blocker":
        task = commit.after.get(commit.task_id)
        if task is None or task.status is not Status.BLOCKED:
            yield f'does not mark "{commit.task_id}" as blocked'
    yield from judge_edit_statuses(commit.kind, commit.after.get(commit.task_id), _list_added(commit))


def _judge_order(commit: CommitFacts) -> Iterator[str]:
    task = commit.before.get(commit.task_id)
    if task and commit.kind in ("merge", "check"):
        for one in task.depends_on:
            if one not in commit.before or not commit.before[one].is_completed:
                yield f'landed before "{one}", which it depends on'


def _list_added(commit: CommitFacts) -> tuple[Task, ...]:
    return tuple(task for one, task in commit.after.items() if one not in commit.before)


def _judge_files(commit: CommitFacts) -> Iterator[str]:
    paths = {task.path: task for task in commit.before.values()}
    added = {task.path: task for task in commit.after.values()}
    for change in commit.files:
        own = paths.get(change.path)
        if change.before is None:
            task = added.get(change.path)
            if task and task.id not in commit.before and not _may_add(commit, task):
                yield f'adds the task "{task.id}" ({change.path})'
        elif own is None:
            yield f"changes {change.path}, a task file that was not readable before"
        elif own.id != commit.task_id and commit.kind == "resolution" and is_reassigned(change, own, commit.task_id):
            continue
        elif own.id != commit.task_id:
            yield f'changes {change.path}, which is the task file of "{own.id}"'
        elif change.after is None:
            yield f"removes its task file {change.path}"
        else:
            yield from _judge_own_file(commit, own, change.before, change.after)


def _judge_own_file(commit: CommitFacts, own: Task, before: str, after: str) -> Iterator[str]:
    if commit.kind == "spawned":
        yield from judge_adoption((before, after), own, commit.trailers.get("Parent", ""))
    elif commit.kind in EDITS:
        yield from judge_edit(commit.kind, (before, after), (own, commit.after.get(own.id)), _list_added(commit))
    elif not is_meant(before, after, commit.kind):
        yield f"changes more of {own.path} than its status, Notes and Summary"


def _may_add(commit: CommitFacts, task: Task) -> bool:
    if commit.kind == "blocker":
        return task.id.startswith("resolve-")
    if commit.kind == "spawned":
        return may_spawn(commit.task_id, commit.trailers.get("Parent", ""), task)
    if commit.kind in EDITS:
        return may_follow_up(commit.kind, commit.task_id, task)
    own = commit.before.get(commit.task_id)
    return commit.kind == "merge" and own is not None and own.level in LEVELS_THAT_ADD_FILES


def is_meant(before: str, after: str, kind: str) -> bool:
    """Whether a task file's texts differ only in status, Notes and Summary; in a blocker also in `depends_on`."""
    old, new = list_other_lines(before), list_other_lines(after)
    if kind == "blocker":
        old, new = without_dependencies(old), without_dependencies(new)
    return old == new


def is_reassigned(change: FileChange, task: Task, resolve_id: str) -> bool:
    """Whether the file of `task`, which waits for `resolve_id`, differs only in the role and the model of its agent."""
    if change.before is None or change.after is None or resolve_id not in task.depends_on:
        return False
    old, new = (
        [line for line in text.splitlines() if not _ASSIGNED.match(line)] for text in (change.before, change.after)
    )
    return old == new


def find_unknown_digests(commits: Sequence[CommitFacts], digest: str) -> int:
    """How many commits were verified with other commands than those configured now, which is not a violation."""
    return sum(1 for one in commits if one.trailers.get("Verified", digest) != digest)


@dataclass(frozen=True, slots=True)
class Reported:
    """What a run reported: each node's outcome with its commit, whether the run ended, and its exit code."""

    run: str
    is_ended: bool
    exit_code: int | None
    outcomes: Mapping[str, tuple[OutcomeName, str]]


def judge_report(
    reported: Reported, landed: Mapping[str, str], head: Mapping[str, Task], *, is_latest: bool
) -> list[str]:
    """Find what a run reported that the head does not confirm.

    `landed` maps each commit of the coordinator on the head to its task, `head` contains the tasks there; `is_latest`:
    nothing was committed after the end of the run.
    """
    found: list[str] = []
    for task_id, (outcome, commit) in sorted(reported.outcomes.items()):
        if outcome in _ENDED_WITH_COMMIT and landed.get(commit) != task_id:
            told = commit[:_SHORT] or "no commit"
            found.append(f'reports that "{task_id}" landed as {told}, which is not on the head')
        elif outcome and not outcome.is_landed and is_latest and task_id in head and head[task_id].is_completed:
            found.append(f'reports that "{task_id}" ended as {outcome}, but it is completed')
    bad = sorted(one for one, (outcome, _) in reported.outcomes.items() if outcome in _ENDED_BADLY)
    if reported.exit_code == ExitCode.COMPLETED and bad:
        found.append(f"ended with 0, although {', '.join(bad)} did not land")
    is_all = bool(head) and all(task.is_completed for task in head.values())
    if reported.is_ended and reported.exit_code not in (ExitCode.COMPLETED, None) and is_all and is_latest:
        found.append(f"ended with {reported.exit_code}, although every node is completed")
    return found
