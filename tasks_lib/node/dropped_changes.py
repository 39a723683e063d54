"""Checks that the resolution of a conflict dropped no change of either side; if it did, who is told."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.inspection.branch_commits import Range, list_own_commits
from tasks_lib.git.inspection.conflict_sides import open_sides
from tasks_lib.git.inspection.merge_comparison import MergeReader
from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.git.ref_names import branch_ref
from tasks_lib.landing.conflict_facts import list_works
from tasks_lib.landing.results import GivenBack
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.prompts.conflict_prompt import OtherWork
from tasks_lib.prompts.dropped_prompt import (
    LostChange,
    describe_drop,
    describe_for_person,
    find_reasons,
    list_lost,
    write_dropped_prompt,
)
from tasks_lib.session.dropped_hunks import DroppedHunk, Side, find_dropped

ROUNDS = 1
"""How often the session is told of changes that it dropped, before a person is asked."""


@dataclass(frozen=True, slots=True)
class DroppedForPerson:
    """The session has left out changes of a side again: only a person may let that land.

    `reason` is one sentence, `notes` has the facts, and `identities` are what the person is asked to allow.
    """

    reason: str
    notes: str
    identities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Missing:
    """What a branch with its `own` commits has dropped of the `sides` of its conflicts; `hunks` by their identity."""

    head: str
    own: tuple[str, ...]
    sides: tuple[str, ...]
    hunks: dict[str, DroppedHunk]


def find_dropped_changes(context: AttemptContext, commit: str) -> GivenBack | DroppedForPerson | None:
    """Return None if the branch at `commit` has dropped nothing, or only what a person has allowed. Blocking.

    Two things are checked in what would land: the branch's commits that were given back for a conflict, and the merges
    that the agent made itself. If the branch conflicts with the head now, it is checked once it does not.
    """
    found = _find_missing(context, commit)
    return _tell(context, found) if found else None


def find_changes_dropped_by_person(context: AttemptContext, commit: str) -> GivenBack | None:
    """The same for a person's own work: what is missing is named to them once, and they decide. Blocking."""
    found = _find_missing(context, commit)
    if found is None:
        return None
    lost = _describe(context, found)
    listed = list_lost(lost, "your branch")
    return GivenBack(
        describe_drop(lost), "", facts=listed, conflicted=found.sides, is_about_drops=True, missing=tuple(found.hunks)
    )


def _find_missing(context: AttemptContext, commit: str) -> _Missing | None:
    run, conflicts = context.run, context.record.conflicts
    head = run.git.head.last_seen()
    own = list_own_commits(run.git.repository.git, run.git.objects, Range(context.record.attempt.fork, head, commit))
    given = tuple(_list_readable(context, commit))
    is_merging = any(len(read_commit(run.git.objects, one).parents) > 1 for one in own)
    if not given and not is_merging:
        return None
    reader = _open_reader(context, (head, commit, *given))
    result = reader.merge(head, commit)
    if result is None:
        return None
    merged = _list_careless_merges(reader, own, head, given) if is_merging else ()
    found = {hunk.identity: hunk for one in (*given, *merged) for hunk in find_dropped(reader.read(head, one, result))}
    missing = {identity: hunk for identity, hunk in found.items() if identity not in conflicts.allowed}
    if not missing:
        if given:
            context.note(conflicts=conflicts.settle())
        return None
    return _Missing(head, own, (*given, *merged), missing)


def _list_readable(context: AttemptContext, commit: str) -> Iterator[str]:
    """The commits that were given back, kept at a ref if the agent has rewritten them; without those that are gone."""
    run = context.run
    for one in context.record.conflicts.commits:
        if run.git.repository.git.resolve(one) is None:
            run.say_from_thread(
                f"{context.task.id}: {one[:10]}, which was given back for a conflict, no longer exists, so it cannot "
                "be checked whether the resolution dropped anything."
            )
            continue
        if not is_ancestor(run.git.repository.git, one, commit):
            keep_commit(run.git.repository.git, context.task.id, one)
        yield one


def _open_reader(context: AttemptContext, commits: Sequence[str]) -> MergeReader:
    git = context.run.git

    def is_task_file(path: str) -> bool:
        """Coordinator itself decides what becomes of task files."""
        if not git.reader.covers(path):
            return False
        entries = (git.objects.find_entry(one, path) for one in commits)
        return any(entry and git.reader.is_task_file(path, entry) for entry in entries)

    return MergeReader(git.repository.git, git.objects, git.isolation, is_task_file)


def _list_careless_merges(reader: MergeReader, own: Sequence[str], head: str, given: Sequence[str]) -> tuple[str, ...]:
    """The branch's side of merges with the target that dropped something; of others, only git's own result counts."""
    return tuple(
        merge.branch
        for merge in reader.list_merges(own, head)
        if merge.branch not in given and find_dropped(reader.read(merge.target, merge.branch, merge.commit))
    )


def _tell(context: AttemptContext, found: _Missing) -> GivenBack | DroppedForPerson:
    lost = _describe(context, found)
    reason = describe_drop(lost)
    record = context.record
    if record.conflicts.rounds < ROUNDS and record.rounds.landing < context.run.settings.land.give_backs:
        prompt, listed = write_dropped_prompt(lost, found.head), list_lost(lost, "the branch")
        return GivenBack(reason, prompt, facts=listed, conflicted=found.sides, is_about_drops=True)
    messages = [read_commit(context.run.git.objects, one).message for one in found.own]
    reasons = find_reasons((record.acceptance.answer, *messages))
    base = context.run.git.head.refs.base_ref
    notes = describe_for_person(lost, reasons, branch_ref(context.branch), base)
    return DroppedForPerson(f"{reason}; only a person may let that land", notes, tuple(found.hunks))


def _describe(context: AttemptContext, missing: _Missing) -> tuple[LostChange, ...]:
    hunks = tuple(missing.hunks.values())
    paths = tuple(dict.fromkeys(hunk.path.removesuffix(" (mode)") for hunk in hunks if hunk.side is Side.HEAD))
    git = context.run.git
    found = (open_sides(git.repository.git, git.objects, missing.head, one) for one in missing.sides)
    works = [work for one in found if one and paths for work in list_works(one, git.reader, paths)]
    return tuple(
        LostChange(hunk.path, hunk.first, hunk.last, _name_owner(hunk, works), hunk.removed, hunk.added)
        for hunk in hunks
    )


def _name_owner(hunk: DroppedHunk, works: Sequence[OtherWork]) -> str:
    """The last task or commit on the head that changed the path of a hunk, "" for one of the branch."""
    if hunk.side is Side.BRANCH:
        return ""
    one = next((work for work in works if hunk.path.removesuffix(" (mode)") in work.paths), None)
    if one is None:
        return "what landed"
    return f"task {one.id}" if one.id else f"commit {one.commit} {one.subject}"
