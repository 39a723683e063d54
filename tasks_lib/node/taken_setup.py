"""Runs `setup` in the worktree of a task that a person has taken: as an agent gets it, until it has passed once."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from tasks_lib.errors import SystemFailure
from tasks_lib.git.inspection.content_marks import list_made, read_content_marks
from tasks_lib.git.session_record import read_record, write_record
from tasks_lib.git.worktree_admin import Worktree, find_entry
from tasks_lib.model import Stage
from tasks_lib.naming import flatten
from tasks_lib.node.uncommitted_paths import read_marks
from tasks_lib.process.private_directories import name_owner, private_directory
from tasks_lib.process.process_groups import MARKER, end_groups
from tasks_lib.project.child_environment import REPOSITORY_MARKER, ChildEnvironments
from tasks_lib.project.loading import Project
from tasks_lib.runtime.setup_and_verify import run_setup
from tasks_lib.session.attempt_record import Record


@dataclass(frozen=True, slots=True)
class TakenWorktree:
    """The worktree of a taken task that `setup` has still to run in, with its record; the output goes to `log`."""

    worktree: Worktree
    record: Record
    log: Path


def find_unprepared(project: Project, task_id: str) -> TakenWorktree | None:
    """Find the worktree of the taken task `task_id`; None if there is none, or if its `setup` has passed. Blocking."""
    repository = project.repository
    branch = project.name_branches().get(task_id, "")
    entry = find_entry(repository, repository.worktrees_dir / branch) if branch else None
    record = read_record(entry.admin) if entry and entry.is_ours else None
    if entry is None or record is None or record.stage is not Stage.SETUP or not record.taken.by:
        return None
    worktree = Worktree(entry.path, entry.admin, entry.slot or 0, entry.branch)
    return TakenWorktree(worktree, record, repository.state_dir / "logs" / flatten(task_id) / "setup.log")


def set_up_taken(project: Project, taken: TakenWorktree) -> str:
    """Run `setup` in a taken worktree; return why it failed, "" if it passed. Blocking.

    It runs without the repository's lock, so a run may be in progress or begin. What it leaves uncommitted does not
    count as the person's work.
    """
    git_dir = taken.worktree.git_dir
    before = read_content_marks(taken.worktree)
    try:
        asyncio.run(_run(project, taken))
        failure = ""
    except (SystemFailure, OSError) as error:
        failure = str(error)
    # Read again: the person may have let the work land meanwhile.
    record = read_record(git_dir) or taken.record
    made = list_made(before, read_content_marks(taken.worktree), read_marks(record))
    record = record.change(findings=record.findings.with_prepared(made)) if made else record
    is_over = not failure and record.stage is Stage.SETUP
    write_record(git_dir, replace(record, stage=None) if is_over else record)
    return failure


async def _run(project: Project, taken: TakenWorktree) -> None:
    repository, settings, session = project.repository, project.settings, taken.record.attempt.session
    # A `setup` of this worktree that outlived its command would get in the way of this one.
    await end_groups((), settings.watch.stop_seconds, session=session)
    with private_directory(name_owner(repository.common_dir)) as private:
        environment = ChildEnvironments(settings, repository, private).of("setup", taken.worktree.slot)
        # Without it, a run that begins would take this for what a killed one left, and end it.
        environment.pop(REPOSITORY_MARKER)
        await run_setup(settings, {**environment, MARKER: session}, taken.worktree.path, taken.log)
