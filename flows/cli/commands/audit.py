"""`coordinator doctor --audit`: checks what finished runs left in git, on this machine and in Prefect."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from flows.cli.display.output import count, print_json, say
from flows.prefect_api import ask
from flows.prefect_isolation import isolated
from flows.prefect_server import find_api
from tasks_lib.cleanup.repository_audit import Audit, audit, verify_again
from tasks_lib.errors import InputError
from tasks_lib.model import OutcomeName
from tasks_lib.project.loading import Project, load_project
from tasks_lib.reporting.audit_rules import Rule, Violation
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.status_board import RunView

LIMIT = 1_000
"""How many first-parent commits are checked by default; takes some seconds."""
VERIFY_LIMIT = 10
REQUEST_SECONDS = 10.0
RECORD_SECONDS = 30.0
"""How long after the end of a run its record in Prefect may be incomplete: the server records states with a delay."""
LOOK_SECONDS = 0.5
_STATES: Mapping[int, str] = {0: "COMPLETED", 1: "FAILED", 3: "FAILED", 130: "CANCELLED"}
_OPEN = ("RUNNING", "PENDING", "SCHEDULED", "CANCELLING")


def check_options(*, is_audit: bool, is_verify: bool, limit: int | None) -> None:
    """Raise InputError for options that need --audit."""
    if not is_audit and (is_verify or limit is not None):
        raise InputError(["`--verify` and `--limit` only work with `--audit`; give that too"])


def audit_repository(path: Path, *, is_verify: bool, limit: int | None, as_json: bool, console: Console) -> ExitCode:
    """Print a line for each violation; returns 1 if there is any. Raises InputError for unreadable input."""
    project = load_project(path)
    found = audit(project, limit or LIMIT)
    violations, notes, verified = list(found.violations), list(found.notes), 0
    if is_verify:
        red, verified = asyncio.run(verify_again(project, found.landed, limit or VERIFY_LIMIT))
        violations += red
    if found.view:
        more, said = ask_prefect(project, found.view)
        violations, notes = [*violations, *more], [*notes, *said]
    if as_json:
        print_json(describe(found, violations, notes, verified))
    else:
        _print(found, violations, notes, verified, console)
    return ExitCode.BLOCKED if violations else ExitCode.COMPLETED


def _print(
    found: Audit, violations: Sequence[Violation], notes: Sequence[str], verified: int, console: Console
) -> None:
    for note in notes:
        say(console, f"note: {note}", "yellow")
    for violation in violations:
        say(console, str(violation), "bold red")
    again = f", {count(verified, 'commit')} verified again" if verified else ""
    looked = f"{count(found.commits, 'commit')} and {count(found.worktrees, 'worktree')} checked{again}"
    verdict = count(len(violations), "violation") if violations else "no violations"
    say(console, f"{verdict}: {looked}", "bold")


def describe(found: Audit, violations: Sequence[Violation], notes: Sequence[str], verified: int) -> dict[str, object]:
    """Return the result as plain values."""
    return {
        "violations": [{**asdict(one), "rule": one.rule.name.lower(), "promise": one.rule.value} for one in violations],
        "notes": list(notes),
        "commits": found.commits,
        "worktrees": found.worktrees,
        "verified": verified,
    }


def ask_prefect(project: Project, view: RunView) -> tuple[list[Violation], list[str]]:
    """Compare the last run's own record with Prefect's, if a server answers; none is started."""
    api = find_api()
    if not api:
        return [], ["No Prefect server is running, so its record of the last run was not checked."]
    try:
        with isolated(api), ask(api["PREFECT_API_URL"], REQUEST_SECONDS) as client:
            violations = _compare(client, view)
            return [*violations, *_find_dead(project)], []
    except (httpx.HTTPError, ValueError) as error:
        return [], [f"Could not read Prefect's record of the last run: {error}"]


def _compare(client: httpx.Client, view: RunView) -> list[Violation]:
    """Compare until the records agree; differences that may only be a delay of the server's are not reported."""
    while (found := _find_differences(client, view)) and seconds_since_end(view) < RECORD_SECONDS:
        time.sleep(LOOK_SECONDS)
    return found


def seconds_since_end(view: RunView) -> float:
    """How long ago the run ended; infinite if it has not, or if the time cannot be read."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(view.ended)).total_seconds()
    except (TypeError, ValueError):
        return math.inf


def _find_differences(client: httpx.Client, view: RunView) -> list[Violation]:
    answer = client.get(f"/flow_runs/{view.run}")
    if answer.status_code in (404, 422):
        return []  # The run was on another server.
    state = str(answer.raise_for_status().json().get("state_type"))
    body = {"flow_runs": {"id": {"any_": [view.run]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 200}
    tasks: list[dict[str, Any]] = []
    while len(page := client.post("/task_runs/filter", json={**body, "offset": len(tasks)}).raise_for_status().json()):
        tasks += page
    return [Violation(Rule.REPORT, f"flow run {view.run}", what) for what in judge_states(view, state, tasks)]


def judge_states(view: RunView, state: str, tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where Prefect's record of an ended run differs from the run's own; `tasks` are task runs, oldest first."""
    if not view.ended or view.exit_code is None:
        return []
    found: list[str] = []
    if state != _STATES.get(view.exit_code, state):
        found.append(f"is {state} in Prefect, but the run ended with {view.exit_code}")
    last = {str(one["name"]): one for one in tasks}
    for name, one in last.items():
        node = view.nodes.get(name)
        if one["state_type"] in _OPEN:
            found.append(f'"{name}" is {one["state_type"]} in Prefect, but the run has ended')
        elif node and node.outcome not in (OutcomeName.NONE, OutcomeName.LANDED, one["state_name"]):
            found.append(f'"{name}" is {one["state_name"]} in Prefect, but {node.outcome} in its own record')
    return found


def _find_dead(project: Project) -> list[Violation]:
    from prefect.client.orchestration import get_client

    from flows.stale_flow_runs import OUTAGE, find_stale

    async def look() -> list[Violation]:
        async with get_client() as client:
            stale = await find_stale(client, project.repository.common_dir)
        what = "is still running in Prefect, but its process is gone; `coordinator cleanup` or the next run fixes that"
        return [Violation(Rule.LEFT, f"flow run {run.id}", what) for run in stale]

    try:
        return asyncio.run(look())
    except OUTAGE:
        return []
