"""Judges from the outside, by what git and the machine show, whether the promises of finished runs were kept."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tasks_lib.model import LEVELS_THAT_ADD_FILES, OutcomeName, Status, Task
from tasks_lib.naming import flatten
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.taskfile.parsing import set_status
from tasks_lib.taskfile.sections import set_section
from tasks_lib.text import fold

_SHORT = 10
_VERIFIED = re.compile(r"[0-9a-f]{16}|none")
_BLOCKED = re.compile(r"blocked\((.+?)\): ")
_ENDED_WITH_COMMIT = (OutcomeName.MERGED, OutcomeName.CHECKED)
_ENDED_BADLY = (OutcomeName.BLOCKED, OutcomeName.FAILED, OutcomeName.ABORTED)


class Rule(StrEnum):
    """A promise, in the words in which a broken one is told."""

    FORM = "each commit of ours says whose it is, and how it came about"
    COMPLETED = "a node is completed exactly from its own commit on"
    ORDER = "a node lands after everything that it depends on"
    MERGE = "a merge is what git's merge gives, and lines of task files that were meant"
    GREEN = "what landed passes verify"
    LEFT = "nothing of a landed node, or of a killed run, is left"
    KEPT = "what was kept can be read"
    REPORT = "what a run reported happened"


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken: `where` is a commit, a path or a ref."""

    rule: Rule
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.rule})"


@dataclass(frozen=True, slots=True)
class FileChange:
    """A task file that a commit changes: its text before and after, None where it is not."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class CommitFacts:
    """One commit of ours against its first parent.

    `before` and `after` are the tasks by id; `files` the task files that differ. `strange` says of each other path why
    it should not be as it is. `is_nothing_new`: the second parent was there already.
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
        """`merge`, `check`, `blocker`, or "" where the subject is none of ours."""
        starts = {"Merge ": "merge", "Check ": "check", "blocked(": "blocker"}
        return next((kind for start, kind in starts.items() if self.subject.startswith(start)), "")

    def __str__(self) -> str:
        return f"{self.id[:_SHORT]} ({self.subject})"


def is_ours(subject: str, trailers: Mapping[str, str]) -> bool:
    """Whether a commit says that it is the coordinator's; persons write trailers `Task:` too."""
    if not trailers.get("Task"):
        return False
    is_shaped = subject.startswith(("Merge ", "Check ", "blocked("))
    return is_shaped or any(trailers.get(name) for name in ("Attempt", "Session", "Verified"))


def judge_commit(commit: CommitFacts) -> list[Violation]:
    """What is wrong with one commit of ours."""
    found = [
        *(Violation(Rule.FORM, str(commit), what) for what in _judge_form(commit)),
        *(Violation(Rule.COMPLETED, str(commit), what) for what in _judge_statuses(commit)),
        *(Violation(Rule.ORDER, str(commit), what) for what in _judge_order(commit)),
        *(Violation(Rule.MERGE, str(commit), what) for what in commit.strange),
    ]
    return [*found, *(Violation(Rule.MERGE, str(commit), what) for what in _judge_files(commit))]


def _judge_form(commit: CommitFacts) -> Iterator[str]:
    if not commit.kind:
        yield "its subject is none of the coordinator's"
        return
    wanted = ("Attempt", "Run", "Session", *(() if commit.kind == "blocker" else ("Verified",)))
    for name in wanted:
        if not commit.trailers.get(name):
            yield f"has no trailer {name}"
    attempt = commit.trailers.get("Attempt", "1")
    if not attempt.isdecimal() or int(attempt) < 1:
        yield f"its Attempt is {attempt!r}, no number of an attempt"
    verified = commit.trailers.get("Verified", "none")
    if not _VERIFIED.fullmatch(verified):
        yield f"its Verified is {verified!r}, no digest"
    if commit.before and commit.task_id not in commit.before:
        yield f'its Task is "{commit.task_id}", which no task file had'
    elif (task := commit.before.get(commit.task_id)) and not _is_named(commit, task):
        yield f'its subject does not say "{task.id}" and its name'
    yield from _judge_parents(commit)


def _is_named(commit: CommitFacts, task: Task) -> bool:
    name = fold(task.name)
    match commit.kind:
        case "blocker":
            said = _BLOCKED.match(commit.subject)
            return said is not None and said[1] == task.id
        case "check":
            return commit.subject == f"Check {task.id}: {name}"
        case _:
            branch, found, rest = commit.subject.removeprefix("Merge ").partition(": ")
            # Where two ids cannot both be branches, one of them gets dashes and a digest.
            return bool(found) and rest == name and flatten(task.id).casefold() in flatten(branch).casefold()


def _judge_parents(commit: CommitFacts) -> Iterator[str]:
    is_plain = commit.kind != "merge" or len(commit.parents) == 1
    if commit.kind != "merge" and len(commit.parents) != 1:
        yield f"has {len(commit.parents)} parents, not one"
    elif commit.kind == "merge" and len(commit.parents) not in (1, 2):
        yield f"has {len(commit.parents)} parents, not the head and the branch"
    elif not is_plain and commit.is_nothing_new:
        yield "merges what was on the head before"


def _judge_statuses(commit: CommitFacts) -> Iterator[str]:
    before = {one for one, task in commit.before.items() if task.is_completed}
    after = {one for one, task in commit.after.items() if task.is_completed}
    own = {commit.task_id} if commit.kind in ("merge", "check") else set[str]()
    for one in sorted(after - before - own):
        yield f'completes "{one}", which is another node'
    for one in sorted(before - after):
        yield f'"{one}" was completed and is not any more'
    for one in sorted(own):
        if one in before:
            yield f'"{one}" had landed already'
        elif one not in after:
            yield f'does not say that "{one}" is completed'
    if commit.kind == "blocker":
        task = commit.after.get(commit.task_id)
        if task is None or task.status is not Status.BLOCKED:
            yield f'does not say that "{commit.task_id}" is blocked'


def _judge_order(commit: CommitFacts) -> Iterator[str]:
    task = commit.before.get(commit.task_id)
    if task and commit.kind in ("merge", "check"):
        for one in task.depends_on:
            if one not in commit.before or not commit.before[one].is_completed:
                yield f'landed before "{one}", which it depends on'


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
            yield f"changes {change.path}, a task file that could not be read before"
        elif own.id != commit.task_id:
            yield f'changes {change.path}, which is the task file of "{own.id}"'
        elif change.after is None:
            yield f"removes its task file {change.path}"
        elif not is_meant(change.before, change.after, commit.kind):
            yield f"changes more of {change.path} than status, Notes and Summary"


def _may_add(commit: CommitFacts, task: Task) -> bool:
    if commit.kind == "blocker":
        return task.id.startswith("resolve-")
    own = commit.before.get(commit.task_id)
    return commit.kind == "merge" and own is not None and own.level in LEVELS_THAT_ADD_FILES


def is_meant(before: str, after: str, kind: str) -> bool:
    """Whether two texts of a task file differ in status, Notes and Summary alone, in a blocker in `depends_on` too."""
    old, new = _bare(before), _bare(after)
    if kind == "blocker":
        old, new = _without_dependencies(old), _without_dependencies(new)
    return old == new


def _bare(text: str) -> list[str]:
    for heading in ("Notes", "Summary"):
        text = set_section(text, heading, "")
    plain = set_status(text, Status.PENDING)
    lines = (line.rstrip() for line in plain.splitlines())
    # The two headings may be written where there were none.
    return [line for line in lines if line and line.lstrip("# ").rstrip(" #").casefold() not in ("notes", "summary")]


def _without_dependencies(lines: Sequence[str]) -> list[str]:
    kept: list[str] = []
    is_within = False
    for line in lines:
        if re.match(r"(depends_on|dependsOn)\s*:", line):
            is_within = True
        elif is_within and re.match(r"[A-Za-z_]|---", line):
            is_within = False
        if not is_within:
            kept.append(line)
    return kept


def find_unknown_digests(commits: Sequence[CommitFacts], digest: str) -> int:
    """How many commits were verified by something else than what is configured now; that is no fault of theirs."""
    return sum(1 for one in commits if one.trailers.get("Verified", digest) != digest)


@dataclass(frozen=True, slots=True)
class Reported:
    """What a run wrote of itself: how each node ended and by which commit, `ended` or not, and its exit code."""

    run: str
    is_ended: bool
    exit_code: int | None
    outcomes: Mapping[str, tuple[OutcomeName, str]]


def judge_report(
    reported: Reported, landed: Mapping[str, str], head: Mapping[str, Task], *, is_latest: bool
) -> list[str]:
    """What a run says of itself and the head does not bear out.

    `landed` maps each commit of ours on the head to its task, `head` are the tasks there; `is_latest` says that nobody
    else has committed since the run ended.
    """
    found: list[str] = []
    for task_id, (outcome, commit) in sorted(reported.outcomes.items()):
        if outcome in _ENDED_WITH_COMMIT and landed.get(commit) != task_id:
            told = commit[:_SHORT] or "no commit"
            found.append(f'says that "{task_id}" landed as {told}, which the head does not hold')
        elif outcome and not outcome.is_landed and is_latest and task_id in head and head[task_id].is_completed:
            found.append(f'says that "{task_id}" ended as {outcome}, and it is completed')
    bad = sorted(one for one, (outcome, _) in reported.outcomes.items() if outcome in _ENDED_BADLY)
    if reported.exit_code == ExitCode.COMPLETED and bad:
        found.append(f"ended with 0, though {', '.join(bad)} did not land")
    is_all = bool(head) and all(task.is_completed for task in head.values())
    if reported.is_ended and reported.exit_code not in (ExitCode.COMPLETED, None) and is_all and is_latest:
        found.append(f"ended with {reported.exit_code}, though every node is completed")
    return found
