"""`coordinator cleanup`: removes what runs left behind, but never unlanded work, and lists saved states."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from flows.cli.commands.kept_states import describe_kept
from flows.cli.commands.prefect_cleanup import settle
from flows.cli.display.output import count, print_json, say
from flows.data_directory import data_dir, name_program
from tasks_lib.cleanup.dead_run import end_processes, find_private, find_unattributed, sweep
from tasks_lib.cleanup.landed_nodes import Leftovers, find_leftovers, remove_landed
from tasks_lib.cleanup.moved_repository import adopt_new_location, find_move, remember_place, require_disk
from tasks_lib.errors import BusyError, InputError
from tasks_lib.git.kept.snapshots import KEPT_REFS, Kept, list_kept
from tasks_lib.git.publish.interrupted_fast_forward import mend
from tasks_lib.git.repository_lock import RunLock, read_holder
from tasks_lib.git.worktree_admin import list_entries
from tasks_lib.git.worktrees.deletion import POOL_NAME, list_trash
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.git.worktrees.nested_worktrees import find_all_nested
from tasks_lib.git.worktrees.stale_files import find_unfinished_files
from tasks_lib.git.worktrees.stale_git_locks import find_dead
from tasks_lib.process.marked_processes import find_marked
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.project.loading import Project, load_project
from tasks_lib.reporting.run_report import ExitCode

RUN_NAME = "cleanup"


def check_options(*, restore: str, to: str, is_prune: bool, older_than: float | None, is_dry_run: bool) -> None:
    """Raise InputError naming each conflict between the options."""
    faults = [
        *(["`--restore` and `--prune` cannot be used together; give only one"] if restore and is_prune else []),
        *(["`--to` only works with `--restore`; give that too"] if to and not restore else []),
        *(
            ["`--older-than` only works with `--prune`; give that too"]
            if older_than is not None and not is_prune
            else []
        ),
        *(["`--restore` and `--dry-run` cannot be used together; give only one"] if restore and is_dry_run else []),
    ]
    if faults:
        raise InputError(faults)


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """`lines` say what was done, or would be; `leftovers` are from before the cleanup, `kept` from after it."""

    lines: tuple[str, ...]
    leftovers: Leftovers
    kept: tuple[Kept, ...]


def clean_up(path: Path, *, is_dry_run: bool, as_json: bool, console: Console) -> ExitCode:
    """Clean up the repository and print what was done. Raises BusyError during a run, InputError for faults."""
    project = load_project(path)
    if holder := read_holder(project.repository.state_dir):
        message = f"{project.repository.top} is in use by {holder}; wait for it to end, or stop it, then clean up"
        raise BusyError(message)
    tidied = look(project) if is_dry_run else tidy(project)
    if as_json:
        print_json(describe(tidied, is_dry_run=is_dry_run))
    else:
        print_tidied(tidied, project, console, is_dry_run=is_dry_run)
    return ExitCode.COMPLETED


def tidy(project: Project) -> CleanupResult:
    """Clean up while holding the run's lock."""
    repository, settings = project.repository, project.settings
    repository.prepare()
    with RunLock(repository.state_dir, RUN_NAME):
        relocation, lines = adopt_new_location(repository)
        remember_place(repository)
        require_disk(repository)
        if ended := asyncio.run(end_processes(repository, settings.watch.stop_seconds, relocation)):
            lines.append(f"ended {count(ended, 'process')} left by an earlier run")
        if line := mend(repository.common_dir):
            lines.append(line)
        former = relocation.former if relocation and not relocation.is_copy else None
        lines += settle(repository.common_dir, former)
        worktrees = Worktrees(repository, pool_size=0, say=lines.append)
        head = project.open_head()
        trash = len(list_trash(repository))
        lines += worktrees.reconcile(list_branches(project))
        if trash:
            lines.append(f"deleted {count(trash, 'item')} that an earlier run had moved to the trash")
        done, leftovers = remove_landed(worktrees, head, project.graph, settings, RUN_NAME)
        worktrees.close()
        head.finish()
        done += sweep(repository, project.graph, settings, data_dir(), relocation)
    return CleanupResult((*lines, *done), leftovers, tuple(list_kept(repository)))


def list_branches(project: Project) -> tuple[str, ...]:
    """List the branches of the graph's nodes."""
    return tuple(project.name_branches().values())


def look(project: Project) -> CleanupResult:
    """Report what `tidy` would do, without changing anything."""
    repository = project.repository
    leftovers = find_leftovers(repository, project.open_head(), project.graph, project.settings)
    moved = find_move(repository)
    lines = [f"worktrees would be linked to this directory; the repository was at {moved.former}"] if moved else []
    lines += [
        f"process {process.pid}: would be ended; it was left by an earlier run"
        for process in find_marked(REPOSITORY_MARKER, str(repository.common_dir))
    ]
    for owner, nested in find_all_nested(repository):
        lines += [f"{entry.path}: would be kept and removed; it is inside {owner.path}" for entry in nested]
    pool = repository.worktrees_dir / POOL_NAME
    for entry in list_entries(repository):
        if entry.is_partial or entry.path.parent == pool:
            lines.append(f"{entry.path}: would be removed; an earlier run was killed while using it")
    lines += [f"{path}: would be deleted; it is in the trash" for path in list_trash(repository)]
    lines += [f"{path}: would be removed; an earlier run was killed while writing it" for path in _find_files(project)]
    lines += [f"{path}: would be removed; {record.task_id} has landed" for path, record in leftovers.landed]
    lines += [f"{record.branch}: would be deleted; its work has landed" for _, record in leftovers.landed]
    lines += [f"{branch}: would be deleted; its work has landed" for branch, _ in leftovers.branches]
    return CleanupResult(tuple(lines), leftovers, tuple(list_kept(repository)))


def _find_files(project: Project) -> list[Path]:
    """List the locks and files that `tidy` would remove."""
    repository = project.repository
    dead = find_dead(repository, list_branches(project))
    outside = [*find_private(repository), *find_unattributed(data_dir())]
    return [*dead, *find_unfinished_files(repository), *outside]


def print_tidied(tidied: CleanupResult, project: Project, console: Console, *, is_dry_run: bool) -> None:
    """Print what was done, the unlanded work that stays, and the saved states."""
    for line in tidied.lines:
        say(console, line)
    if not tidied.lines:
        say(console, "There was nothing to clean up." if not is_dry_run else "There is nothing to clean up.")
    if tidied.leftovers.open:
        say(console, "Not removed, because the work has not landed; the next run continues it:")
        for path, record in tidied.leftovers.open:
            task = project.graph.tasks.get(record.task_id)
            say(console, f"  {path}: {record.task_id}, {task.status.value if task else 'which has no task file'}")
    _print_kept(tidied.kept, console)


def _print_kept(kept: Sequence[Kept], console: Console) -> None:
    if not kept:
        return
    say(console, "Saved states, from before something was removed or reset:")
    for one in kept:
        say(console, f"  {one.date.astimezone():%Y-%m-%d %H:%M}  {one.ref}")
    last = kept[-1].ref
    short = last.removeprefix(f"{KEPT_REFS}/")
    say(console, f"Show one: git show {last}   Restore it: {name_program()} cleanup --restore {short}")
    say(console, f"Delete one: git update-ref -d {last}   Delete old ones: {name_program()} cleanup --prune")


def describe(tidied: CleanupResult, *, is_dry_run: bool) -> dict[str, object]:
    """Return the result as plain values."""
    return {
        "is_dry_run": is_dry_run,
        "done": list(tidied.lines),
        "open": [{"path": str(path), "id": r.task_id, "branch": r.branch} for path, r in tidied.leftovers.open],
        "kept": [describe_kept(one) for one in tidied.kept],
    }
