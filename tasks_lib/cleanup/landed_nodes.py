"""Finds leftover worktrees and branches of landed nodes, and removes them without losing anything that did not land."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.git.branches import delete_branch
from tasks_lib.git.commits.branch_state import read_state
from tasks_lib.git.commits.commit import read_commits
from tasks_lib.git.commits.landed_commits import find_landed
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.kept.snapshots import keep_state
from tasks_lib.git.kept.unreferenced_commits import keep_unreferenced
from tasks_lib.git.publish.checkout_fast_forward import read_reason
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.ref_listing import list_merged_branches
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock
from tasks_lib.git.session_record import read_record
from tasks_lib.git.worktree_admin import Entry, Worktree, list_all, list_entries
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.git.worktrees.repair_after_kill import StaleState, find_stale_worktrees
from tasks_lib.graph.task_graph import Graph
from tasks_lib.naming import name_branches
from tasks_lib.runtime.copied_files import is_copied
from tasks_lib.session.attempt_record import Record
from tasks_lib.settings.schema import Settings

_MADE = re.compile(r"\tbranch: Created from [0-9a-f]{40}(?:[0-9a-f]{24})?$")
BRANCH_DELETED = "deleted; its work has landed"
HISTORY = 10_000
"""How many first-parent commits to search for landed nodes; branches are left by a kill, so their merges are recent."""


@dataclass(frozen=True, slots=True)
class NodeWorktrees:
    """`landed` are worktrees (path and record) of nodes that are completed at the head, `open` coordinator's others.

    `branches` are branches of completed nodes without a worktree, each with its commit, which the head contains.
    """

    landed: tuple[tuple[Path, Record], ...] = ()
    open: tuple[tuple[Path, Record], ...] = ()
    branches: tuple[tuple[str, str], ...] = ()


def find_node_worktrees(repository: Repository, head: Head, graph: Graph, settings: Settings) -> NodeWorktrees:
    """Find worktrees and branches that earlier runs left. Changes nothing."""
    landed: list[tuple[Path, Record]] = []
    still_open: list[tuple[Path, Record]] = []
    stale = {one.admin for one in find_stale_worktrees(repository) if one.state is not StaleState.UNLINKED}
    for entry in sorted(list_entries(repository), key=lambda entry: entry.path):
        record = read_record(entry.admin) if entry.admin not in stale else None
        if record:
            task = graph.tasks.get(record.task_id)
            is_over = task and task.is_completed and not _is_in_use(entry, record, settings)
            (landed if is_over else still_open).append((entry.path, record))
    taken = {record.branch for _, record in (*landed, *still_open)}
    taken |= {entry.branch for entry in list_all(repository) if entry.branch and entry.admin not in stale}
    freed = {entry.branch for entry in list_all(repository) if entry.branch and entry.admin in stale} - taken
    branches = _find_branches(repository, head, graph, settings, taken, freed)
    return NodeWorktrees(tuple(landed), tuple(still_open), branches)


def _is_in_use(entry: Entry, record: Record, settings: Settings) -> bool:
    """Whether a person has uncommitted work there, although their task was completed in another way."""
    if not record.taken.by:
        return False
    try:
        state = read_state(Worktree(entry.path, entry.admin, entry.slot or 0, entry.branch).git)
    except GitError:
        return False
    return any(not is_copied(path, settings.copy_paths) for path in state.dirty)


def _find_branches(
    repository: Repository, head: Head, graph: Graph, settings: Settings, taken: set[str], freed: set[str]
) -> tuple[tuple[str, str], ...]:
    """Return branches of landed nodes that are still where they landed from; any other was created by the user since.

    `taken` are branches that a worktree has checked out; `freed` are those of worktrees that are gone but still
    registered with git.
    """
    tip = head.current()
    names = name_branches(graph.tasks.values(), settings.branch_prefix, target=head.refs.target)
    merged = list_merged_branches(repository.git, tip, freed)
    found: list[tuple[str, str]] = []
    landed: Mapping[str, str] = find_landed(repository.git, tip, HISTORY) if merged else {}
    for task_id, commit in landed.items():
        task, branch = graph.tasks.get(task_id), names.get(task_id, "")
        is_lying_about = task and task.is_completed and branch in merged and branch not in taken
        if is_lying_about and _is_landed_from(repository, commit, branch, merged[branch]):
            found.append((branch, merged[branch]))
    return tuple(found)


def _is_landed_from(repository: Repository, landed: str, branch: str, tip: str) -> bool:
    """Return whether `branch`, at `tip`, is what the commit `landed` brought to the head.

    That is the second parent of a merge. A review without commits left its branch where it was created: at the head of
    that time, from a full object id, which the branch's reflog shows if git keeps one.
    """
    (merge,) = read_commits(repository.git, [landed])
    parents = merge.parents
    if len(parents) > 1:
        return tip == parents[1]
    log = repository.common_dir / "logs" / "refs" / "heads" / branch
    rows = log.read_text("utf-8", "surrogateescape").splitlines() if log.is_file() else []
    is_made_by_id = all(_MADE.search(row) for row in rows)
    return is_made_by_id and bool(parents) and is_ancestor(repository.git, tip, parents[0])


def remove_landed(
    worktrees: Worktrees, head: Head, settings: Settings, run_id: str, found: NodeWorktrees, held: HeldRunLock
) -> list[str]:
    """Remove the landed worktrees and branches in `found`; return a line for each thing done.

    Content that did not land is first kept at a ref.
    """
    repository = worktrees.repository
    records = dict(found.landed)
    lines: list[str] = []
    for worktree in worktrees.list():
        record = records.get(worktree.path)
        if record is None:
            continue
        state = read_state(worktree.git)
        ref = keep_state(worktree, record.task_id, run_id, landed=head.current(), exclude=settings.copy_paths)
        left = keep_unreferenced(repository, worktree.git_dir, record.branch, record.task_id, state.commit)
        worktrees.release(worktree)
        lines.append(f"{worktree.path}: {describe_landed(record)}{_tell_kept(ref or left)}")
        if _delete_branch(worktrees, record.branch, state.commit):
            lines.append(f"{record.branch}: {BRANCH_DELETED}")
    for branch, commit in found.branches:
        keep_unreferenced(repository, repository.state_dir / "none", branch, branch, commit)
        if _delete_branch(worktrees, branch, commit):
            lines.append(f"{branch}: {BRANCH_DELETED}")
    return lines


def describe_landed(record: Record) -> str:
    """Return what is done with the worktree of a landed node, and why."""
    return f"removed; {record.task_id} has landed"


def _delete_branch(worktrees: Worktrees, branch: str, commit: str) -> bool:
    """Return whether `branch` is gone. If git refuses, e.g. because of a lock, report it; the next run tries again."""
    try:
        return delete_branch(worktrees.repository, branch, commit)
    except GitError as error:
        worktrees.say(
            f"{branch} has landed but could not be deleted: {read_reason(error.stderr)} The next run tries again."
        )
        return False


def _tell_kept(ref: str | None) -> str:
    return f"; the rest of its content is kept at {ref}" if ref else ""
