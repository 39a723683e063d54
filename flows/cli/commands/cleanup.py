"""`coordinator cleanup`: puts away what runs left behind, never work that did not land, and lists what is kept."""

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
    """Raise InputError for options that do not go together, naming each."""
    faults = [
        *(["`--restore` and `--prune` cannot be given at once; give one of them"] if restore and is_prune else []),
        *(["`--to` says where `--restore` goes; give that too"] if to and not restore else []),
        *(
            ["`--older-than` says what `--prune` forgets; give that too"]
            if older_than is not None and not is_prune
            else []
        ),
        *(["`--restore` has no `--dry-run`; leave one of them out"] if restore and is_dry_run else []),
    ]
    if faults:
        raise InputError(faults)


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """`lines` say what was done, or would be; `leftovers` are as they were found, `kept` as they are at the end."""

    lines: tuple[str, ...]
    leftovers: Leftovers
    kept: tuple[Kept, ...]


def clean_up(path: Path, *, is_dry_run: bool, as_json: bool, console: Console) -> ExitCode:
    """Tidy the repository and say what was done. Raises BusyError while a run is going on, InputError for faults."""
    project = load_project(path)
    if holder := read_holder(project.repository.state_dir):
        message = f"{project.repository.top} is worked by {holder}; wait for it to end, or stop it, then clean up"
        raise BusyError(message)
    tidied = look(project) if is_dry_run else tidy(project)
    if as_json:
        print_json(describe(tidied, is_dry_run=is_dry_run))
    else:
        print_tidied(tidied, project, console, is_dry_run=is_dry_run)
    return ExitCode.COMPLETED


def tidy(project: Project) -> CleanupResult:
    """Put things away, holding the run's lock."""
    repository, settings = project.repository, project.settings
    repository.prepare()
    with RunLock(repository.state_dir, RUN_NAME):
        relocation, lines = adopt_new_location(repository)
        remember_place(repository)
        require_disk(repository)
        if ended := asyncio.run(end_processes(repository, settings.watch.stop_seconds, relocation)):
            lines.append(f"ended {count(ended, 'process')} that an earlier run had left")
        if line := mend(repository.common_dir):
            lines.append(line)
        former = relocation.former if relocation and not relocation.is_copy else None
        lines += settle(repository.common_dir, former)
        worktrees = Worktrees(repository, pool_size=0, say=lines.append)
        head = project.open_head()
        trash = len(list_trash(repository))
        lines += worktrees.reconcile(list_branches(project))
        if trash:
            lines.append(f"deleted {trash} directories that were thrown away before")
        done, leftovers = remove_landed(worktrees, head, project.graph, settings, RUN_NAME)
        worktrees.close()
        head.finish()
        done += sweep(repository, project.graph, settings, data_dir(), relocation)
    return CleanupResult((*lines, *done), leftovers, tuple(list_kept(repository)))


def list_branches(project: Project) -> tuple[str, ...]:
    """The branches of the graph's nodes."""
    return tuple(project.name_branches().values())


def look(project: Project) -> CleanupResult:
    """What `tidy` would do; nothing is changed."""
    repository = project.repository
    leftovers = find_leftovers(repository, project.open_head(), project.graph, project.settings)
    moved = find_move(repository)
    lines = [f"worktrees would be linked to this place; the repository was at {moved.former}"] if moved else []
    lines += [
        f"process {process.pid}: would be ended; an earlier run had left it"
        for process in find_marked(REPOSITORY_MARKER, str(repository.common_dir))
    ]
    for owner, nested in find_all_nested(repository):
        lines += [f"{entry.path}: would be kept and removed; it is inside {owner.path}" for entry in nested]
    pool = repository.worktrees_dir / POOL_NAME
    for entry in list_entries(repository):
        if entry.is_partial or entry.path.parent == pool:
            lines.append(f"{entry.path}: would be removed; an earlier run was ended while using it")
    lines += [f"{path}: would be deleted; it was thrown away before" for path in list_trash(repository)]
    lines += [f"{path}: would be removed; an earlier run was ended while writing it" for path in _find_files(project)]
    lines += [f"{path}: would be removed; {record.task_id} has landed" for path, record in leftovers.landed]
    lines += [f"{record.branch}: would be deleted; its work has landed" for _, record in leftovers.landed]
    lines += [f"{branch}: would be deleted; its work has landed" for branch, _ in leftovers.branches]
    return CleanupResult(tuple(lines), leftovers, tuple(list_kept(repository)))


def _find_files(project: Project) -> list[Path]:
    """Locks and files that `tidy` would remove."""
    repository = project.repository
    dead = find_dead(repository, list_branches(project))
    outside = [*find_private(repository), *find_unattributed(data_dir())]
    return [*dead, *find_unfinished_files(repository), *outside]


def print_tidied(tidied: CleanupResult, project: Project, console: Console, *, is_dry_run: bool) -> None:
    """What was done, what stays because it did not land, and what is kept."""
    for line in tidied.lines:
        say(console, line)
    if not tidied.lines:
        say(console, "There was nothing to put away." if not is_dry_run else "There is nothing to put away.")
    if tidied.leftovers.open:
        say(console, "Stays, because its work has not landed; a run goes on with it:")
        for path, record in tidied.leftovers.open:
            task = project.graph.tasks.get(record.task_id)
            say(console, f"  {path}: {record.task_id}, {task.status.value if task else 'which has no task file'}")
    _print_kept(tidied.kept, console)


def _print_kept(kept: Sequence[Kept], console: Console) -> None:
    if not kept:
        return
    say(console, "Kept before something was removed, and in nobody's way:")
    for one in kept:
        say(console, f"  {one.date.astimezone():%Y-%m-%d %H:%M}  {one.ref}")
    last = kept[-1].ref
    short = last.removeprefix(f"{KEPT_REFS}/")
    say(console, f"Look at one: git show {last}   Take it up: {name_program()} cleanup --restore {short}")
    say(console, f"Forget one: git update-ref -d {last}   The old ones: {name_program()} cleanup --prune")


def describe(tidied: CleanupResult, *, is_dry_run: bool) -> dict[str, object]:
    """The same as plain values."""
    return {
        "is_dry_run": is_dry_run,
        "done": list(tidied.lines),
        "open": [{"path": str(path), "id": r.task_id, "branch": r.branch} for path, r in tidied.leftovers.open],
        "kept": [describe_kept(one) for one in tidied.kept],
    }
