"""Audits a repository and what its runs left on this machine, without changing or starting anything."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tasks_lib.cleanup.leftovers import Kind as LeftoverKind
from tasks_lib.cleanup.moved_repository import find_move
from tasks_lib.cleanup.plan import Scope, find_leftovers
from tasks_lib.errors import GitError
from tasks_lib.git.commits.commit import read_commits
from tasks_lib.git.commits.commit_search import count_commits
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.inspection.audited_commits import CommitChain, Examiner, find_unreadable, read_chain
from tasks_lib.git.kept.snapshots import KEPT_REFS
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.publish.queue_refs import QUEUE
from tasks_lib.git.ref_listing import list_ref_types
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import read_dead_holder, read_holder
from tasks_lib.git.worktree_admin import list_entries
from tasks_lib.git.worktrees.shared_clone import SharedClone
from tasks_lib.model import Task
from tasks_lib.process.private_directories import name_owner, private_directory
from tasks_lib.project.child_environment import REPOSITORY_MARKER, ChildEnvironments, Kind
from tasks_lib.project.loading import Project
from tasks_lib.project.target_base import open_head
from tasks_lib.reporting.audit_rules import (
    CommitFacts,
    Reported,
    Rule,
    Violation,
    find_unknown_digests,
    judge_commit,
    judge_report,
)
from tasks_lib.runtime.copied_files import copy_in
from tasks_lib.runtime.last_run import read_last_run
from tasks_lib.runtime.setup_and_verify import Green, Red, describe_untested_lines, judge
from tasks_lib.runtime.status_board import VIEW_NAME, RunView, read_view
from tasks_lib.settings.schema import digest_verify

_AGED = (LeftoverKind.LOG, LeftoverKind.KEPT)
"""What is removed only because of its age, which is not a violation."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The findings: `notes` are not faults; `commits` and `worktrees` are the numbers of those that were checked.

    `view` is what the last run wrote, None if nothing. `landed` are coordinator's merges on the head, newest first.
    """

    violations: tuple[Violation, ...]
    notes: tuple[str, ...]
    commits: int
    worktrees: int
    view: RunView | None
    landed: tuple[CommitFacts, ...]


def audit(project: Project, limit: int) -> Audit:
    """Audit the last `limit` commits of the head, and what runs left."""
    repository = project.repository
    holder = read_holder(repository.state_dir)
    head = open_head(repository, project.settings, project.target)
    tip = head.current()
    chain = read_chain(repository.git, tip, limit)
    violations, commits = _judge_chain(project, chain)
    notes = [*_note_chain(project, chain, limit)]
    if holder:
        notes.append(f"{holder} is in progress, so its open work and its report are not checked.")
    else:
        left, aged = _judge_left(project, head)
        violations += left
        notes += aged
        notes += _note_kill(repository)
    found, more = _judge_queue(repository, project.target, head)
    violations += [*found, *(Violation(Rule.KEPT, ref, why) for ref, why in find_unreadable(repository))]
    view = read_view(repository.state_dir / VIEW_NAME)
    if view and not holder:
        violations += _judge_view(repository, view, chain, project.graph.tasks)
    notes += more
    merges = tuple(commit for commit in commits if commit.kind == "merge")
    worktrees = sum(1 for _ in list_entries(repository))
    return Audit(tuple(violations), tuple(notes), len(chain.ours), worktrees, view if not holder else None, merges)


def _judge_chain(project: Project, chain: CommitChain) -> tuple[list[Violation], list[CommitFacts]]:
    violations: list[Violation] = []
    commits: list[CommitFacts] = []
    with Objects(project.repository.git) as objects:
        examiner = Examiner(project.repository.git, objects, TaskReader(objects, project.tasks_dir, project.target))
        for commit in chain.ours:
            try:
                facts = examiner.examine(commit)
            except GitError as error:
                violations.append(Violation(Rule.MERGE, str(commit), f"cannot be read: {error.stderr}"))
                continue
            commits.append(facts)
            violations += judge_commit(facts)
    return violations, commits


def _note_chain(project: Project, chain: CommitChain, limit: int) -> Iterator[str]:
    if unknown := find_unknown_digests(chain.ours, digest_verify(project.settings)):
        yield f"{unknown} commits were verified with other `setup`, `verify` and `wrapper` lines than the current ones."
    if not chain.is_whole:
        yield f"Only the last {limit} commits were checked; `--limit` checks more."


# What runs left.


def _judge_left(project: Project, head: Head) -> tuple[list[Violation], list[str]]:
    """Return violations for what `cleanup` would remove, and notes for what it would remove only because it is old.

    The queue is judged separately. What dead coordinators left in shared places belongs to no one repository.
    """
    repository = project.repository
    branches = tuple(project.name_branches().values())
    moved = find_move(repository)
    plan = find_leftovers(Scope(repository, project.settings, head, project.graph, branches, None, moved))
    found = [one for one in plan.list() if one.kind not in (LeftoverKind.SHARED, LeftoverKind.QUEUE)]
    when = "the next run, or `coordinator cleanup`,"
    notes = [f"{one.where} {one.found}; {when} removes it." for one in found if one.kind in _AGED]
    notes += filter(None, [plan.published.notice])
    if moved:
        notes.insert(0, f"The repository was at {moved.former}; {when} links its worktrees.")
    return [Violation(Rule.LEFT, one.where, one.found) for one in found if one.kind not in _AGED], notes


def _note_kill(repository: Repository) -> Iterator[str]:
    last = read_last_run(repository.state_dir)
    dead = read_dead_holder(repository.state_dir)
    if dead or last.was_killed:
        who = dead or f"run {last.view.run if last.view else ''}"
        yield f"{who} exited uncleanly; `coordinator run` resumes it, `coordinator cleanup` only cleans up."


# The head, and what is reported about it.


def _judge_queue(repository: Repository, target: str, head: Head) -> tuple[list[Violation], list[str]]:
    git, violations, notes = repository.git, list[Violation](), list[str]()
    for ref, commit, kind in list_ref_types(git, "refs/coordinator"):
        if ref.startswith(f"{KEPT_REFS}/"):
            continue
        branch = ref.removeprefix(QUEUE)
        base = git.resolve(head.refs.base_ref if branch == target else f"refs/heads/{branch}")
        base = base if ref.startswith(QUEUE) else None
        if base is None or kind != "commit":
            what = f"does not belong to any branch of this repository ({target} is the target)"
            violations.append(Violation(Rule.LEFT, ref, what))
        elif is_ancestor(git, commit, base):
            if read_holder(repository.state_dir) is None:
                violations.append(Violation(Rule.LEFT, ref, f"is left over, although {branch} contains all of it"))
        elif is_ancestor(git, base, commit):
            count = count_commits(git, commit, base, is_first_parent=True)
            notes.append(f"Publication is pending: {count} commits wait at {ref} for {branch}.")
        else:
            notes.append(f"{branch} has moved since: the next run recreates on it what waits at {ref}.")
    return violations, notes


def _judge_view(
    repository: Repository, view: RunView, chain: CommitChain, tasks: Mapping[str, Task]
) -> Iterator[Violation]:
    outcomes = {node.id: (node.outcome, node.commit) for node in view.nodes.values()}
    landed = {commit.id: commit.task_id for commit in chain.ours}
    if not chain.is_whole:
        # Commits older than those that were checked are not reported as missing.
        outcomes = {one: said for one, said in outcomes.items() if not said[1] or said[1] in landed}
    is_latest = not chain.is_foreign_last and _is_written_before(repository, chain, view)
    reported = Reported(view.run, bool(view.ended), view.exit_code, outcomes)
    for what in judge_report(reported, landed, tasks, is_latest=is_latest):
        yield Violation(Rule.REPORT, f"run {view.run}", what)


def _is_written_before(repository: Repository, chain: CommitChain, view: RunView) -> bool:
    """Return whether the newest commit was made before the run ended: then the head is the one that the run left."""
    if not view.ended or not chain.ours:
        return False
    (newest,) = read_commits(repository.git, [chain.ours[0].id])
    return newest.committed_at <= datetime.fromisoformat(view.ended)


# Verifying again.


async def verify_again(project: Project, merges: Sequence[CommitFacts], limit: int) -> tuple[list[Violation], int]:
    """Run `setup` and `verify` on the first `limit` of `merges` in a clone; return the red ones and how many ran."""
    chosen = merges[:limit] if project.settings.verify else ()
    violations: list[Violation] = []
    repository = project.repository
    with private_directory(name_owner(repository.common_dir)) as private:
        surroundings = ChildEnvironments(project.settings, repository, private)
        clone = SharedClone(repository, private / "clone")

        def see(kind: Kind) -> dict[str, str]:
            # Without the marker: a run that starts meanwhile would take these processes for those of a dead run.
            return {name: value for name, value in surroundings.of(kind, 1).items() if name != REPOSITORY_MARKER}

        for commit in chosen:
            await asyncio.to_thread(_check_out, project, clone, commit.id)
            red = await judge(project.settings, see, clone.place, private / f"verify-{commit.id}.log")
            if isinstance(red, Green) and red.is_vacuous:
                violations.append(Violation(Rule.GREEN, str(commit), describe_untested_lines(red)))
            if isinstance(red, Red):
                last = red.tail.strip().rpartition("\n")[2] or "no output"
                violations.append(Violation(Rule.GREEN, str(commit), f"`{red.line}` {red.how}: {last}"))
    return violations, len(chosen)


def _check_out(project: Project, clone: SharedClone, commit: str) -> None:
    clone.check_out(commit)
    for name in project.settings.copy_paths:
        copy_in(project.repository.top / name, clone.place, name)
