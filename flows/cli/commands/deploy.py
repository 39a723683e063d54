"""`coordinator deploy`: makes a repository's deployments in Prefect, for starting runs from its UI or on a schedule."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from rich.console import Console

from flows.cli.display.output import print_json, say
from flows.data_directory import data_dir, list_repositories, register
from flows.deployments.definitions import Schedule
from flows.importing import importing
from flows.prefect_api import find_ui
from flows.prefect_isolation import isolated
from flows.prefect_server import find_api
from flows.server_health import require_login, wait_until_healthy
from tasks_lib.cleanup.moved_repository import find_former_top, find_move
from tasks_lib.errors import CoordinatorError, InputError, SystemFailure
from tasks_lib.git.repository import Repository
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.text import fold

if TYPE_CHECKING:
    from flows.deployments.applying import Applied
    from flows.deployments.repositories import Result

CRON, CLEANUP_CRON = "--cron", "--cleanup-cron"
NO_SERVER = "no Prefect server is running: start one with `coordinator up`, or set PREFECT_API_URL to yours"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `coordinator deploy`; "" and None mean that one was not given."""

    cron: str = ""
    cleanup_cron: str = ""
    timezone: str = ""
    max_sessions: int | None = None
    pool: str = ""
    is_removing: bool = False


def deploy_repository(path: Path, options: Options, *, as_json: bool, console: Console) -> ExitCode:
    """Make, update or remove the deployments of the repository at `path`, and print what was done.

    Raises InputError for invalid options, if no server is running or if the work pool cannot be used; SystemFailure if
    the server does not answer or refuses something.
    """
    api, schedules = check(options)
    name = find_name(path) if options.is_removing else register_repository(path)
    is_theirs = bool(os.environ.get("PREFECT_API_URL"))
    with isolated(api):
        result = perform(name, options, schedules, api["PREFECT_API_URL"], is_theirs=is_theirs)
    ui = find_ui(api["PREFECT_API_URL"])
    if as_json:
        print_json(describe(result, ui))
    else:
        print_result(result, name, ui, console)
    return ExitCode.COMPLETED


def check(options: Options) -> tuple[Mapping[str, str], Mapping[str, Schedule]]:
    """Return the settings with which Prefect reaches the server, and the schedules by option.

    Raises InputError with all faults at once, ServerError if PREFECT_API_URL is set but does not answer.
    """
    api = find_api()
    crons = {CRON: options.cron, CLEANUP_CRON: options.cleanup_cron}
    with isolated(api or {"PREFECT_HOME": str(data_dir() / "prefect")}):
        from flows.deployments.schedules import parse_schedules

        schedules, faults = parse_schedules(crons, options.timezone, datetime.now(UTC))
    given = [*(option for option, cron in crons.items() if cron)]
    given += ["--max-sessions"] if options.max_sessions else []
    given += ["--pool"] if options.pool else []
    if options.is_removing and given:
        faults.append(f"`--remove` cannot be used with {', '.join(f'`{one}`' for one in given)}; leave one of them out")
    if not api:
        faults.append(NO_SERVER)
    if faults:
        raise InputError(faults)
    if theirs := os.environ.get("PREFECT_API_URL"):
        wait_until_healthy(theirs, None, None)
        require_login(theirs)
    return api, schedules


def register_repository(path: Path) -> str:
    """Register the repository that contains `path`, and return its name."""
    repository = Repository.open(path)
    return register(repository.top, find_former_top(repository, find_move(repository)))


def find_name(path: Path) -> str:
    """The name under which the repository at `path` is registered, even if it no longer exists."""
    place = path
    try:
        place = Repository.open(path).top
    except CoordinatorError:
        if path.is_dir():
            raise
    for name, known in list_repositories().items():
        if known == place:
            return name
    raise InputError([f"{place} is not a registered repository, so it has no deployments"])


def perform(name: str, options: Options, schedules: Mapping[str, Schedule], api: str, *, is_theirs: bool) -> "Result":
    """Do what was asked for on the server at `api`, or on the user's own. Raises SystemFailure if it does not work."""
    with importing():
        from prefect.exceptions import PrefectException

        from flows.deployments.repositories import Request, deploy, remove

    request = Request(name, schedules.get(CRON), schedules.get(CLEANUP_CRON), options.max_sessions, options.pool)
    try:
        return asyncio.run(remove(name) if options.is_removing else deploy(request, "" if is_theirs else api))
    except (httpx.HTTPError, PrefectException) as error:
        what = fold(str(error))[:500] or type(error).__name__
        raise SystemFailure(f"the Prefect server at {find_ui(api)} did not do what was asked for: {what}") from error


def print_result(result: "Result", name: str, ui: str, console: Console) -> None:
    """Print a line for each deployment, with what was kept, and the warnings."""
    for one in result.applied:
        say(console, f"{one.name}: {one.action}{f', {link(one, ui)}' if one.action != 'removed' else ''}")
        for schedule in list_schedules(one):
            paused = "" if schedule["is_active"] else ", paused in Prefect"
            say(console, f"  schedule: {schedule['when']}{paused}")
        if one.kept:
            say(console, f"  kept as changed in Prefect: {', '.join(map(name_field, one.kept))}")
    if not result.applied:
        say(console, f"There are no deployments of {name} on {ui}.")
    for line in result.warnings:
        say(console, line, "yellow")


def link(one: "Applied", ui: str) -> str:
    """The page of a deployment in Prefect's UI."""
    return f"{ui}/deployments/deployment/{one.id}"


def name_field(field: str) -> str:
    """Name a field of a deployment as people know it: `max_sessions`, not `parameters.options.max_sessions`."""
    return field.rpartition(".")[2]


def list_schedules(one: "Applied") -> list[dict[str, object]]:
    """The schedules of a deployment as plain values."""
    return [
        {"slug": s.slug, "is_active": s.active, "when": _describe_times(s.schedule.model_dump(mode="json"))}
        for s in one.schedules
    ]


def _describe_times(values: Mapping[str, object]) -> str:
    times = values.get("cron") or values.get("rrule") or f"every {values.get('interval')} seconds"
    return f"{times} ({values.get('timezone') or 'UTC'})"


def describe(result: "Result", ui: str) -> dict[str, object]:
    """Return the result as plain values."""
    return {
        "server": ui,
        "deployments": [
            {
                "name": one.name,
                "id": str(one.id),
                "action": one.action,
                "pool": one.pool,
                "link": link(one, ui),
                "is_paused": one.is_paused,
                "kept": list(one.kept),
                "schedules": list_schedules(one),
            }
            for one in result.applied
        ],
        "warnings": list(result.warnings),
    }
