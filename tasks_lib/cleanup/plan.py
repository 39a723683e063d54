"""Plans and applies a cleanup: finds everything that dead runs left without changing anything, then removes it.

The start of a run, `coordinator cleanup`, its dry run and the audit all use the same plan, so they cannot disagree.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Flag, auto
from pathlib import Path

from tasks_lib.cleanup.dead_run import (
    LeftProcesses,
    end_processes,
    find_closed_logs,
    find_old_states,
    find_private,
    find_processes,
    find_unattributed,
)
from tasks_lib.cleanup.landed_nodes import (
    BRANCH_DELETED,
    NodeWorktrees,
    describe_landed,
    find_node_worktrees,
    remove_landed,
)
from tasks_lib.cleanup.leftovers import LEFT_BY_KILL, STALE_WORDS, Kind, Leftover
from tasks_lib.cleanup.published_sessions import PublishedSessions, delete_published, find_published
from tasks_lib.git.kept.restore_and_prune import delete_kept
from tasks_lib.git.kept.snapshots import Kept
from tasks_lib.git.publish.interrupted_fast_forward import (
    Move,
    describe_restored,
    read_interrupted,
    restore_interrupted,
)
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock
from tasks_lib.git.worktrees.deletion import POOL_NAME, delete, list_trash
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.git.worktrees.nested_worktrees import NestedItem, find_nested_items
from tasks_lib.git.worktrees.relinking import Relocation
from tasks_lib.git.worktrees.repair_after_kill import UNFINISHED_DID, StaleState, StaleWorktree, find_stale_worktrees
from tasks_lib.git.worktrees.stale_files import find_unfinished_files
from tasks_lib.git.worktrees.stale_git_locks import DROPPED, describe_foreign_locks, find_dead
from tasks_lib.graph.task_graph import Graph
from tasks_lib.settings.schema import Settings


class Stage(Flag):
    """A part of a plan that is found and applied together; applying one can leave more for the next to find."""

    PROCESSES = auto()
    REPOSITORY = auto()
    NODES = auto()
    QUEUE = auto()
    SESSIONS = auto()
    """What sessions elsewhere left on the remote; a run looks at it itself."""
    ALL = PROCESSES | REPOSITORY | NODES | QUEUE | SESSIONS


@dataclass(frozen=True, slots=True)
class Scope:
    """What to clean up: a repository with its head, the graph at the head, and the `branches` of the graph's nodes.

    `data` is coordinator's data directory, None to skip it. `relocation` is how the repository was moved since its
    last run, None if it was not.
    """

    repository: Repository
    settings: Settings
    head: Head
    graph: Graph
    branches: tuple[str, ...]
    data: Path | None = None
    relocation: Relocation | None = None


@dataclass(frozen=True, slots=True)
class RepositoryLeftovers:
    """What interrupted git commands and processes that were killed left in the repository.

    `notices` are lines about obstacles that are not coordinator's; they stay. `empty` are coordinator's empty
    directories.
    """

    interrupted: Move | None = None
    locks: tuple[Path, ...] = ()
    nested: tuple[NestedItem, ...] = ()
    unfinished: tuple[Path, ...] = ()
    stale: tuple[StaleWorktree, ...] = ()
    trash: tuple[Path, ...] = ()
    empty: tuple[Path, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutsideLeftovers:
    """What dead runs left outside the repository: `private` belongs to it; whose `shared` is, is unknown."""

    private: tuple[Path, ...] = ()
    shared: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Expired:
    """What is older than `kept_days`: logs of nodes that are not open, and kept states."""

    logs: tuple[Path, ...] = ()
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True)
class CleanupPlan:
    """What dead runs left in `scope`, and therefore what `apply` removes; `stages` are those that were searched.

    `queue` is the queue's ref if all of it has been published, "" otherwise.
    """

    scope: Scope
    stages: Stage
    processes: LeftProcesses = field(default_factory=LeftProcesses)
    repository: RepositoryLeftovers = field(default_factory=RepositoryLeftovers)
    nodes: NodeWorktrees = field(default_factory=NodeWorktrees)
    outside: OutsideLeftovers = field(default_factory=OutsideLeftovers)
    expired: Expired = field(default_factory=Expired)
    queue: str = ""
    published: PublishedSessions = field(default_factory=PublishedSessions)

    def list(self) -> "list[Leftover]":
        """Return everything in the plan, in the order in which it is handled."""
        return [
            *_list_processes(self),
            *_list_repository(self),
            *_list_nodes(self),
            *_list_aged(self),
            *_list_queue(self),
            *self.published.list(),
        ]


def find_leftovers(scope: Scope, stages: Stage = Stage.ALL) -> CleanupPlan:
    """Find what dead runs left. Changes nothing."""
    plan = CleanupPlan(scope, stages)
    if Stage.PROCESSES in stages:
        plan = replace(plan, processes=find_processes(scope.repository, scope.relocation))
    if Stage.REPOSITORY in stages:
        plan = replace(plan, repository=_find_in_repository(scope))
    if Stage.NODES in stages:
        plan = _find_of_nodes(plan)
    if Stage.QUEUE in stages and scope.head.is_published():
        plan = replace(plan, queue=scope.head.refs.queue_ref)
    if Stage.SESSIONS in stages:
        remote, target = scope.settings.spokes.remote, scope.head.refs.target
        plan = replace(plan, published=find_published(scope.repository, remote, target))
    return plan


def _find_in_repository(scope: Scope) -> RepositoryLeftovers:
    repository, branches = scope.repository, scope.branches
    stale = find_stale_worktrees(repository)
    foreign = [f"{one.path}: {one.state.value}" for one in stale if one.state is StaleState.FOREIGN]
    pool = repository.worktrees_dir / POOL_NAME
    return RepositoryLeftovers(
        interrupted=read_interrupted(repository.common_dir),
        locks=tuple(find_dead(repository, branches)),
        nested=tuple(find_nested_items(repository)),
        unfinished=tuple(find_unfinished_files(repository)),
        stale=tuple(one for one in stale if one.state is not StaleState.FOREIGN),
        trash=tuple(list_trash(repository)),
        empty=(pool,) if pool.is_dir() and not any(pool.iterdir()) else (),
        notices=(*describe_foreign_locks(repository, branches), *foreign),
    )


def _find_of_nodes(plan: CleanupPlan) -> CleanupPlan:
    scope = plan.scope
    repository, days = scope.repository, scope.settings.kept_days
    return replace(
        plan,
        nodes=find_node_worktrees(repository, scope.head, scope.graph, scope.settings),
        outside=OutsideLeftovers(
            private=tuple(find_private(repository, scope.relocation)), shared=tuple(find_unattributed(scope.data))
        ),
        expired=Expired(
            logs=tuple(find_closed_logs(repository, scope.graph, days)), kept=tuple(find_old_states(repository, days))
        ),
    )


# How it is described.


def _list_processes(plan: CleanupPlan) -> Iterator[Leftover]:
    done, found = "ended; it was left by an earlier run", "was started by a run and is still running"
    for pid in plan.processes.marked:
        yield Leftover(Kind.PROCESS, f"process {pid}", done, found)
    for pid in plan.processes.groups:
        yield Leftover(Kind.PROCESS, f"process group {pid}", done, found)


def _list_repository(plan: CleanupPlan) -> Iterator[Leftover]:
    if move := plan.repository.interrupted:
        found = "was left half-moved by a run that was killed while git was moving it"
        yield Leftover(Kind.INTERRUPTED, move.place, describe_restored(move), found)
    for lock in plan.repository.locks:
        yield Leftover(Kind.LOCK, str(lock), DROPPED, "a stale lock")
    for item in plan.repository.nested:
        found = f"is inside one of Coordinator's worktrees ({item.what})"
        yield Leftover(Kind.NESTED, item.where, "removed", found, f"{item.what},")
    for path in plan.repository.unfinished:
        yield Leftover(Kind.UNFINISHED, str(path), UNFINISHED_DID, LEFT_BY_KILL)
    for one in plan.repository.stale:
        yield Leftover(Kind.STALE, str(one.path), one.state.value, STALE_WORDS[one.state])
    for path in plan.repository.trash:
        yield Leftover(Kind.TRASH, str(path), "deleted; an earlier run had moved it to the trash", LEFT_BY_KILL)
    for path in plan.repository.empty:
        yield Leftover(Kind.EMPTY, str(path), "removed; it is empty", "is empty and unused")


def _list_nodes(plan: CleanupPlan) -> Iterator[Leftover]:
    for path, record in plan.nodes.landed:
        found = f'the worktree of "{record.task_id}", which has landed'
        yield Leftover(Kind.LANDED, str(path), describe_landed(record), found)
    for branch in (*(record.branch for _, record in plan.nodes.landed), *(name for name, _ in plan.nodes.branches)):
        yield Leftover(Kind.BRANCH, branch, BRANCH_DELETED, "a branch whose work has landed")


def _list_aged(plan: CleanupPlan) -> Iterator[Leftover]:
    for kind, paths in ((Kind.PRIVATE, plan.outside.private), (Kind.SHARED, plan.outside.shared)):
        for path in paths:
            yield Leftover(kind, str(path), "deleted; an earlier run that was killed had made it", LEFT_BY_KILL)
    days = plan.scope.settings.kept_days
    for path in plan.expired.logs:
        yield Leftover(Kind.LOG, str(path), f"deleted; it is older than {days} days", f"is older than {days} days")
    for one in plan.expired.kept:
        said = f"was kept more than {days} days ago"
        yield Leftover(Kind.KEPT, one.ref, f"deleted; it {said}", said)


def _list_queue(plan: CleanupPlan) -> Iterator[Leftover]:
    if plan.queue:
        target = plan.scope.head.refs.target
        yield Leftover(
            Kind.QUEUE,
            plan.queue,
            f"deleted; {target} contains all of it",
            f"is left over, although {target} contains all of it",
        )


# Applying it.


@dataclass(frozen=True, slots=True)
class Done:
    """A line about what was done to a leftover of this `kind`; None if the kind is ambiguous."""

    kind: Kind | None
    line: str


async def apply(
    plan: CleanupPlan,
    held: HeldRunLock,
    worktrees: Worktrees,
    run_id: str,
    call: Callable[[Callable[[], list[Done]]], Awaitable[list[Done]]] = asyncio.to_thread,
) -> list[Done]:
    """Apply `plan` and return what was done; every step may be interrupted and repeated.

    Content that has not landed is first kept at a ref. Each step checks again, under git's own locks, before it removes
    anything. `call` runs blocking functions. Raises AgentError if a process cannot be ended.
    """
    done = await _end_processes(plan) if plan.processes != LeftProcesses() else []
    if Stage.REPOSITORY in plan.stages:
        done += await call(lambda: _apply_to_repository(plan, held, worktrees))
    if Stage.NODES in plan.stages:
        done += await call(lambda: _apply_to_nodes(plan, held, worktrees, run_id))
    if plan.queue:
        done += await call(lambda: _apply_to_queue(plan))
    if plan.published.refs:
        done += await call(lambda: _apply_to_sessions(plan))
    return done


async def _end_processes(plan: CleanupPlan) -> list[Done]:
    scope = plan.scope
    count = await end_processes(scope.repository, scope.settings.watch.stop_seconds, scope.relocation)
    done = [Done(Kind.PROCESS, one.describe_done()) for one in _list_processes(plan)]
    # They may have started other processes while they were being ended.
    return [
        *done,
        *(Done(Kind.PROCESS, "another process: ended; one of these had started it") for _ in range(count - len(done))),
    ]


def _apply_to_repository(plan: CleanupPlan, held: HeldRunLock, worktrees: Worktrees) -> list[Done]:
    repository = plan.scope.repository
    restored = restore_interrupted(repository.common_dir, held)
    done = [Done(Kind.INTERRUPTED, restored)] if restored else []
    done += [Done(None, line) for line in worktrees.reconcile(held, plan.scope.branches)]
    gone = {str(path) for path in (*plan.repository.trash, *plan.repository.empty) if not os.path.lexists(path)}
    return [*done, *(Done(one.kind, one.describe_done()) for one in _list_repository(plan) if one.where in gone)]


def _apply_to_nodes(plan: CleanupPlan, held: HeldRunLock, worktrees: Worktrees, run_id: str) -> list[Done]:
    scope, repository, days = plan.scope, plan.scope.repository, plan.scope.settings.kept_days
    lines = remove_landed(worktrees, scope.head, scope.settings, run_id, plan.nodes, held)
    gone = {str(path) for path in (*plan.outside.private, *plan.outside.shared) if delete(path)}
    # Since then a log may have been written to, or a state kept again, so that it is no longer old.
    for log in set(find_closed_logs(repository, scope.graph, days)) & set(plan.expired.logs):
        log.unlink(missing_ok=True)
        gone.add(str(log))
    still_old = find_old_states(repository, days) if plan.expired.kept else []
    old = [one for one in still_old if one in plan.expired.kept]
    gone |= {one.ref for one in old if delete_kept(repository, one, held)}
    aged = (one for one in _list_aged(plan) if one.where in gone)
    return [*(Done(Kind.LANDED, line) for line in lines), *(Done(one.kind, one.describe_done()) for one in aged)]


def _apply_to_queue(plan: CleanupPlan) -> list[Done]:
    plan.scope.head.finish()
    is_gone = plan.scope.repository.git.resolve(plan.queue) is None
    return [Done(one.kind, one.describe_done()) for one in _list_queue(plan) if is_gone]


def _apply_to_sessions(plan: CleanupPlan) -> list[Done]:
    scope = plan.scope
    lines = delete_published(scope.repository, plan.published, scope.head.refs.target)
    return [Done(Kind.PUBLISHED, line) for line in lines]


_COUNTED = (Kind.PROCESS, Kind.KEPT)
_QUIET = (Kind.TRASH, Kind.EMPTY, Kind.LOG, Kind.QUEUE)


def summarize(done: Iterable[Done], settings: Settings) -> list[str]:
    """Return the lines that a run prints at its start about what was done; one line for all of a numerous kind."""
    found = list(done)
    ended, forgotten = (sum(one.kind is kind for one in found) for kind in _COUNTED)
    return [
        *([f"Ended {ended} processes that an earlier run had left running."] if ended else []),
        *(one.line for one in found if one.kind not in (*_COUNTED, *_QUIET)),
        *([f"Deleted {forgotten} states that were kept more than {settings.kept_days} days ago."] if forgotten else []),
    ]
