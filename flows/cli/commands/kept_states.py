"""`coordinator cleanup --restore` and `--prune`: creates a branch from a kept state, or deletes old states."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from flows.cli.display.output import count, print_json, say
from flows.data_directory import name_program
from tasks_lib.errors import InputError
from tasks_lib.git.kept.restore_and_prune import delete_kept, find_kept, find_old, restore
from tasks_lib.git.kept.snapshots import Kept
from tasks_lib.git.ref_names import branch_ref
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode

PRUNE_NAME = "cleanup --prune"
DAY_SECONDS = 86_400


def restore_kept(path: Path, name: str, to: str, *, as_json: bool, console: Console) -> ExitCode:
    """Create the branch `to` ("" for a default name) from the kept state `name`.

    Raises InputError if `name` matches no state or several, or if the branch already exists.
    """
    repository = Repository.open(path)
    kept = find_kept(repository, name)
    number = kept.ref.rpartition("/")[2]
    made = restore(repository, kept, to or f"restored/{kept.label}-{number}")
    if as_json:
        print_json({**describe_kept(kept), "branch": made.branch, "has_staged": made.has_staged})
        return ExitCode.COMPLETED
    say(console, f"Created branch {made.branch} from {kept.ref} ({kept.commit[:10]}).")
    if made.has_staged:
        say(console, f"The staged files were different; show them: git show {branch_ref(made.branch)}^2")
    say(console, f"Show it: git log --stat {branch_ref(made.branch)} --   Switch to it: git switch {made.branch}")
    say(console, "To let a run continue it, restore it with `--to` the node's own branch, once that name is free.")
    say(console, f"The kept state was not removed; to delete it: git update-ref -d {kept.ref}")
    return ExitCode.COMPLETED


def prune_kept(path: Path, days: float | None, *, is_dry_run: bool, as_json: bool, console: Console) -> ExitCode:
    """Delete the states kept more than `days` ago, by default `kept_days` of the configuration.

    Raises BusyError during a run, InputError if neither sets an age.
    """
    project = load_project(path)
    limit = project.settings.kept_days if days is None else days
    if days is None and limit == 0:
        raise InputError(["kept_days is 0, so kept states never expire; set an age with `--older-than DAYS`"])
    now = datetime.now(UTC)
    repository = project.repository
    with RunLock(repository.state_dir, PRUNE_NAME) as lock:
        old = find_old(repository, limit, now)
        done = old if is_dry_run else [kept for kept in old if delete_kept(repository, kept, lock)]
    if as_json:
        print_json({"is_dry_run": is_dry_run, "days": limit, "pruned": [describe_kept(kept, now) for kept in done]})
    else:
        _print_pruned(done, limit, now, console, is_dry_run=is_dry_run)
    return ExitCode.COMPLETED


def _print_pruned(done: Sequence[Kept], limit: float, now: datetime, console: Console, *, is_dry_run: bool) -> None:
    for kept in done:
        what = "would be deleted" if is_dry_run else f"deleted; it was {kept.commit}"
        say(console, f"{kept.ref}: saved {count(count_days(kept, now), 'day')} ago, {what}")
    if not done:
        say(console, f"No kept state is older than {limit:g} days; `{name_program()} cleanup` lists them all.")


def count_days(kept: Kept, now: datetime) -> int:
    """How many whole days ago the state was kept."""
    return max(0, int((now - kept.date).total_seconds() // DAY_SECONDS))


def describe_kept(kept: Kept, now: datetime | None = None) -> dict[str, object]:
    """A kept state as plain values."""
    age = {"days": count_days(kept, now)} if now else {}
    return {"ref": kept.ref, "commit": kept.commit, "date": kept.date.isoformat(), "label": kept.label, **age}
