"""Prepares a person's task for them: its worktree, its branch, and a brief; nobody else may take it then."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tasks_lib.cleanup.moved_repository import require_not_moved
from tasks_lib.errors import InputError
from tasks_lib.git.commits.branch_state import read_diffstat
from tasks_lib.git.commits.landed_commits import find_landed
from tasks_lib.git.commits.merge_tree import find_merge_base
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock
from tasks_lib.git.session_record import write_record
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.git.worktrees.stale_git_locks import drop_ref_locks
from tasks_lib.model import Stage, Task
from tasks_lib.naming import flatten, is_resolve_task, show, show_some
from tasks_lib.node.attempt_context import new_session_id
from tasks_lib.node.first_prompt import PromptContext, describe_prerequisites, gather_context
from tasks_lib.node.previous_attempt import read_previous
from tasks_lib.process.files import write_atomically
from tasks_lib.project.loading import Project
from tasks_lib.prompts.persons_brief import write_brief
from tasks_lib.runtime.copied_files import copy_in
from tasks_lib.runtime.node_registry import MAX_HISTORY
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.user_requests import RequestResult
from tasks_lib.session.attempt_record import AttemptIdentity, Record, Taken
from tasks_lib.suggestions import suggest

BRIEF_NAME = "brief.md"


@dataclass(frozen=True, slots=True)
class Taker:
    """Who takes a task, as git names them; `is_forced` also takes it over from somebody else."""

    by: str
    is_forced: bool = False


async def take_in_run(run: Run, task_id: str, taker: Taker) -> RequestResult:
    """Prepare a person's task during `run`."""
    briefing = gather_context(run)
    if task_id in run.requests.open_nodes():
        return RequestResult(False, f"{task_id} cannot be taken: its work is landing in this run")
    try:
        branch = run.nodes.branch_of(task_id) if task_id in briefing.tasks else ""
        said = await run.git.call_opening(take, run.git.worktrees, briefing, task_id, branch, taker)
    except InputError as error:
        return RequestResult(False, str(error))
    return RequestResult(True, said)


def take_without_run(project: Project, lock: HeldRunLock, task_id: str, taker: Taker) -> str:
    """Prepare a person's task while no run is in progress; return what to tell them. Raises InputError."""
    repository = project.repository
    require_not_moved(repository)
    repository.exclude_worktrees()
    branches = project.name_branches()
    drop_ref_locks(repository, tuple(branches.values()), lock)
    settings, git = project.settings, repository.git
    worktrees = Worktrees(
        repository, keep=settings.keep, setup_key=settings.setup_key, copied=settings.copy_paths, pool_size=0
    )
    landed = find_landed(git, project.head, MAX_HISTORY)
    with Objects(git) as objects:
        briefing = PromptContext(
            settings=settings,
            target=project.target,
            tasks=project.graph.tasks,
            reader=TaskReader(objects, project.tasks_dir, project.target),
            head=project.head,
            diffstat=lambda one: read_diffstat(git, landed[one]) if one in landed else "",
            landed=lambda one: landed.get(one, ""),
        )
        return take(worktrees, briefing, task_id, branches.get(task_id, ""), taker)


def take(worktrees: Worktrees, briefing: PromptContext, task_id: str, branch: str, taker: Taker) -> str:
    """Prepare a task of a person, and return what to tell them. Blocking. Raises InputError with the reason.

    Taking it again changes nothing but the brief, unless that was killed before `copy` had been done. The worktree is
    ready once `set_up_taken` has run its `setup`.
    """
    repository, task = worktrees.repository, _require_task(briefing.tasks, task_id)
    previous = read_previous(repository, briefing.tasks, task_id, branch, briefing.head)
    _require_free(previous, taker, task_id)
    worktree = worktrees.open_branch(branch, briefing.head)
    record = previous or _begin_record(repository, task_id, branch, briefing.head)
    if record.taken.by != taker.by:
        record = replace(record, taken=Taken(taker.by, datetime.now(UTC).isoformat(timespec="seconds")))
    record = record.change(attempt=record.attempt.with_slot(worktree.slot))
    write_record(worktree.git_dir, record)
    if record.stage is Stage.WORKTREE:
        for name in briefing.settings.copy_paths:
            copy_in(repository.top / name, worktree.path, name)
        write_record(worktree.git_dir, record.change(stage=Stage.SETUP))
    brief = _write_brief(repository, briefing, task, record, worktree.path)
    return (
        f"{task_id} is yours: {worktree.path}, on branch {branch}. The brief is {brief}. "
        f"Commit your work there, then `coordinator land {task_id}`"
    )


def _require_task(tasks: Mapping[str, Task], task_id: str) -> Task:
    """Return the task that a person may begin now."""
    task = tasks.get(task_id)
    if task is None:
        raise InputError([f'"{show(task_id)}" is not a task{suggest(task_id, tasks)}'])
    if task.is_completed:
        raise InputError([f"{task_id} is completed already"])
    if is_resolve_task(task_id) and task.is_human:
        raise InputError([f'{task_id} needs an answer, and no worktree: `coordinator resolve {task_id} "…"`'])
    if not task.is_human:
        how = f"write `assignee: human` into {task.path}, and commit that"
        raise InputError([f"{task_id} is an agent's task. To work on it yourself, {how}"])
    if waits := [one for one in task.depends_on if not tasks[one].is_completed]:
        raise InputError([f"{task_id} cannot be begun yet: it waits for {show_some(waits)}"])
    return task


def _require_free(record: Record | None, taker: Taker, task_id: str) -> None:
    taken = record.taken if record else Taken()
    if taken.by and taken.by != taker.by and not taker.is_forced:
        how = f"`coordinator take {task_id} --force` takes it over, with everything in its worktree"
        raise InputError([f"{task_id} was taken by {show(taken.by)} at {taken.at}; {how}"])


def _begin_record(repository: Repository, task_id: str, branch: str, head: str) -> Record:
    """The record of a task that nobody has worked on, or whose branch somebody made."""
    tip = repository.branch_head(branch)
    base = (tip and find_merge_base(repository.git, head, tip)) or head
    return Record(task_id, branch, Stage.WORKTREE, AttemptIdentity(session=new_session_id(), base=base))


def _write_brief(repository: Repository, briefing: PromptContext, task: Task, record: Record, worktree: Path) -> Path:
    text = briefing.reader.text(briefing.head, task.path) or ""
    before = describe_prerequisites(briefing, task)
    setup = briefing.settings.setup
    brief = write_brief(task, text, before, record.notes, branch=record.branch, worktree=str(worktree), setup=setup)
    path = repository.state_dir / "logs" / flatten(task.id) / BRIEF_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, brief.encode("utf-8", "replace"))
    return path
