"""Cleans up a repository after killed runs, in git, on this machine and in Prefect."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.data_directory import data_dir
from flows.prefect_cleanup import settle
from tasks_lib.cleanup.moved_repository import adopt_new_location, find_move, remember_place, require_disk
from tasks_lib.cleanup.plan import CleanupPlan, Scope, Stage, apply, find_leftovers
from tasks_lib.git.kept.snapshots import Kept, list_kept
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.git.session_record import Record
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.git.worktrees.relinking import Relocation
from tasks_lib.project.loading import Project

RUN_NAME = "cleanup"


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """`lines` say what was done, or would be; `open` are the worktrees that stay, `kept` is from after the cleanup."""

    lines: tuple[str, ...]
    open: tuple[tuple[Path, Record], ...]
    kept: tuple[Kept, ...]


def apply_cleanup(project: Project, tell: Callable[[Path, Path | None], list[str]] = settle) -> CleanupResult:
    """Clean up, stage by stage: what one does can leave more for the next. `tell` cleans up in Prefect.

    Raises BusyError while a run uses the repository.
    """
    repository, lines = project.repository, list[str]()
    repository.prepare()
    with RunLock(repository.state_dir, RUN_NAME) as held:
        relocation, moved = adopt_new_location(repository, held)
        remember_place(repository)
        require_disk(repository)
        lines += moved
        scope = make_scope(project, relocation)
        worktrees = Worktrees(repository, pool_size=0, say=lines.append)

        def do(stage: Stage) -> CleanupPlan:
            plan = find_leftovers(scope, stage)
            lines.extend(done.line for done in asyncio.run(apply(plan, held, worktrees, RUN_NAME)))
            return plan

        do(Stage.PROCESSES)
        lines += tell(repository.common_dir, relocation.former if relocation and not relocation.is_copy else None)
        do(Stage.REPOSITORY)
        still_open = do(Stage.NODES).nodes.open
        worktrees.close()
        do(Stage.QUEUE)
        lines += filter(None, [do(Stage.SESSIONS).published.notice])
    return CleanupResult(tuple(lines), still_open, tuple(list_kept(repository)))


def plan_cleanup(project: Project) -> CleanupResult:
    """Report what `apply_cleanup` would do, without changing anything."""
    moved = find_move(project.repository)
    plan = find_leftovers(make_scope(project, moved))
    lines = [f"worktrees would be linked to this directory; the repository was at {moved.former}"] if moved else []
    lines += [*(leftover.describe_plan() for leftover in plan.list()), *plan.repository.notices]
    lines += filter(None, [plan.published.notice])
    return CleanupResult(tuple(lines), plan.nodes.open, tuple(list_kept(project.repository)))


def make_scope(project: Project, relocation: Relocation | None) -> Scope:
    """What is cleaned up of a project."""
    branches = tuple(project.name_branches().values())
    head = project.open_head()
    return Scope(project.repository, project.settings, head, project.graph, branches, data_dir(), relocation)
