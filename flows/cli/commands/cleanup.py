"""`coordinator cleanup`: removes what runs left behind, but never unlanded work, and lists kept states."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flows.cli.commands.kept_states import describe_kept
from flows.cli.display.output import print_json, say
from flows.data_directory import name_program
from flows.repository_cleanup import CleanupResult, apply_cleanup, plan_cleanup
from tasks_lib.errors import BusyError, InputError
from tasks_lib.git.kept.snapshots import KEPT_REFS, Kept
from tasks_lib.git.repository_lock import read_holder
from tasks_lib.project.loading import Project, load_project
from tasks_lib.reporting.run_report import ExitCode


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


def clean_up(path: Path, *, is_dry_run: bool, as_json: bool, console: Console) -> ExitCode:
    """Clean up the repository and print what was done. Raises BusyError during a run, InputError for faults."""
    project = load_project(path)
    if holder := read_holder(project.repository.state_dir):
        message = f"{project.repository.top} is in use by {holder}; wait for it to end, or stop it, then clean up"
        raise BusyError(message)
    found = plan_cleanup(project) if is_dry_run else apply_cleanup(project)
    if as_json:
        print_json(describe(found, is_dry_run=is_dry_run))
    else:
        print_cleanup(found, project, console, is_dry_run=is_dry_run)
    return ExitCode.COMPLETED


def print_cleanup(found: CleanupResult, project: Project, console: Console, *, is_dry_run: bool) -> None:
    """Print what was done, the unlanded work that stays, and the kept states."""
    for line in found.lines:
        say(console, line)
    if not found.lines:
        say(console, "There was nothing to clean up." if not is_dry_run else "There is nothing to clean up.")
    if found.open:
        say(console, "Not removed, because the work has not landed; the next run continues it:")
        for path, record in found.open:
            task = project.graph.tasks.get(record.task_id)
            say(console, f"  {path}: {record.task_id}, {task.status.value if task else 'which has no task file'}")
    _print_kept(found.kept, console)


def _print_kept(kept: Sequence[Kept], console: Console) -> None:
    if not kept:
        return
    say(console, "Kept states, from before something was removed or reset:")
    for one in kept:
        say(console, f"  {one.date.astimezone():%Y-%m-%d %H:%M}  {one.ref}")
    last = kept[-1].ref
    short = last.removeprefix(f"{KEPT_REFS}/")
    say(console, f"Show one: git show {last}   Restore it: {name_program()} cleanup --restore {short}")
    say(console, f"Delete one: git update-ref -d {last}   Delete old ones: {name_program()} cleanup --prune")


def describe(found: CleanupResult, *, is_dry_run: bool) -> dict[str, object]:
    """Return the result as plain values."""
    return {
        "is_dry_run": is_dry_run,
        "done": list(found.lines),
        "open": [{"path": str(path), "id": r.task_id, "branch": r.branch} for path, r in found.open],
        "kept": [describe_kept(one) for one in found.kept],
    }
