"""`coordinator spoke`: registers repositories on a machine that runs sessions for runs on others, and runs them."""

import asyncio
from pathlib import Path

from rich.console import Console

from flows.cli.commands.spoke_names import NO_SERVER, name_spoke
from flows.cli.display.output import print_json, say
from flows.data_directory import data_dir, name_program
from flows.importing import importing
from flows.prefect_api import find_ui
from flows.prefect_isolation import isolated
from flows.prefect_server import find_api
from flows.server_health import require_login, wait_until_healthy
from flows.spokes.registry import (
    SpokeRepository,
    add_repository,
    clean_up_copies,
    list_remotes,
    list_spoke_repositories,
    remove_repository,
)
from flows.spokes.worker_lock import holding_worker_lock, is_worker_running
from tasks_lib.cleanup.spoke_plan import find_spoke_leftovers
from tasks_lib.errors import BusyError, InputError
from tasks_lib.reporting.run_report import ExitCode


def add(url: str, name: str, target: str, *, as_json: bool, console: Console) -> ExitCode:
    """Copy the repository at `url` and register it. Raises InputError."""
    absolute = str(Path(url).resolve()) if Path(url).is_dir() else url
    made = add_repository(absolute, name, target)
    if as_json:
        print_json(describe(made))
        return ExitCode.COMPLETED
    say(console, f"Sessions of {made.name} can run here; work lands on {made.target}.")
    say(console, f"Its copy is {made.place}. Files that `copy` lists are taken from {made.files}.")
    say(console, f"To take sessions: {name_program()} spoke start")
    return ExitCode.COMPLETED


def list_all(*, as_json: bool, console: Console) -> ExitCode:
    """Print the repositories that are registered here."""
    known = list_spoke_repositories()
    if as_json:
        print_json([describe(one) for one in known.values()])
    for one in () if as_json else known.values():
        say(console, f"{one.name}: {one.url}, lands on {one.target}")
    if not known and not as_json:
        say(console, f"No repository is registered here. To register one: {name_program()} spoke add URL")
    return ExitCode.COMPLETED


def remove(name: str, console: Console, *, is_forced: bool) -> ExitCode:
    """Forget a repository and delete its copy. Raises InputError if it is not registered, or has unsaved work."""
    remove_repository(name, is_forced=is_forced)
    say(
        console, f"{name}, its copy and its files for `copy` were removed. What sessions had done is on the git remote."
    )
    return ExitCode.COMPLETED


def clean_up(*, is_dry_run: bool, as_json: bool, console: Console) -> ExitCode:
    """Remove what killed workers left, and what is too old, and print it. Raises BusyError while a worker runs."""
    data = data_dir()
    if is_worker_running(data):
        how = "it cleans up when it starts; to do it now, restart it"
        raise BusyError(f"a worker for sessions uses {data}: {how}")
    if is_dry_run:
        plan = find_spoke_leftovers(list_remotes(), data)
        lines = [*(one.describe_plan() for one in plan.list()), *plan.notices]
    else:
        with holding_worker_lock(data):
            lines = clean_up_copies(data)
    if as_json:
        print_json({"is_dry_run": is_dry_run, "done": lines})
        return ExitCode.COMPLETED
    for line in lines or ["There is nothing to clean up." if is_dry_run else "There was nothing to clean up."]:
        say(console, line)
    return ExitCode.COMPLETED


def start(name: str, pool: str, console: Console) -> ExitCode:
    """Take sessions until Ctrl-C. Raises InputError if there is no server, or the name cannot be used."""
    chosen = name_spoke(name)
    api = find_api()
    if not api:
        raise InputError([NO_SERVER])
    if not list_spoke_repositories():
        raise InputError([f"no repository is registered here; do it with `{name_program()} spoke add URL`"])
    wait_until_healthy(api["PREFECT_API_URL"], None, None)
    require_login(api["PREFECT_API_URL"])
    say(console, f"Prefect's UI: {find_ui(api['PREFECT_API_URL'])}")
    with isolated(api):
        with importing():
            from flows.spoke_worker.session_worker import serve_sessions

        with holding_worker_lock(data_dir()):
            asyncio.run(serve_sessions(pool, chosen))
    return ExitCode.COMPLETED


def describe(one: SpokeRepository) -> dict[str, str]:
    """What `--json` prints of a repository."""
    return {"name": one.name, "url": one.url, "target": one.target, "place": str(one.place)}
