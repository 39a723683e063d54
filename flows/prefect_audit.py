"""Audits a repository, and compares Prefect's record of its last run with the run's own."""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx

from flows.importing import importing
from flows.prefect_api import ask
from flows.prefect_isolation import isolated
from flows.prefect_server import find_api
from tasks_lib.cleanup.repository_audit import Audit, audit
from tasks_lib.model import OutcomeName
from tasks_lib.project.loading import Project
from tasks_lib.reporting.audit_rules import Rule, Violation
from tasks_lib.runtime.status_board import RunView

AUDITED_COMMITS = 1_000
"""How many first-parent commits are checked by default; takes some seconds."""
REQUEST_SECONDS = 10.0
RECORD_SECONDS = 30.0
"""How long after the end of a run its record in Prefect may be incomplete: the server records states with a delay."""
LOOK_SECONDS = 0.5
_STATES: Mapping[int, str] = {0: "COMPLETED", 1: "FAILED", 3: "FAILED", 130: "CANCELLED"}
_OPEN = ("RUNNING", "PENDING", "SCHEDULED", "CANCELLING")


def audit_with_prefect(project: Project, limit: int) -> Audit:
    """Audit the last `limit` commits of the head, what runs left, and Prefect's record of the last run."""
    found = audit(project, limit)
    if found.view is None:
        return found
    violations, notes = ask_prefect(project, found.view)
    return replace(found, violations=(*found.violations, *violations), notes=(*found.notes, *notes))


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
    with importing():
        from prefect.client.orchestration import get_client

        from flows.stale_flow_runs import OUTAGE, find_stale

    async def find() -> list[Violation]:
        async with get_client() as client:
            stale = await find_stale(client, project.repository.common_dir)
        what = "is still running in Prefect, but its process is gone; `coordinator cleanup` or the next run fixes that"
        return [Violation(Rule.LEFT, f"flow run {run.id}", what) for run in stale]

    try:
        return asyncio.run(find())
    except OUTAGE:
        return []
