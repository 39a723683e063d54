"""Finds flow runs whose coordinator was killed, and tells Prefect how they ended."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    TaskRunFilter,
    TaskRunFilterFlowRunId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import PrefectException
from prefect.states import Crashed

from flows.flow_run_marks import find_repository_id, is_restarted, read_marks
from flows.open_flow_runs import list_open
from flows.prefect_states import describe_run
from flows.run_ending import tell_continuation
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.status_board import RunView

FLOW = "run-graph"
ALIVE = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.PAUSED)
"""Not SCHEDULED: such a run was never started, and may still start."""
_ALIVE_TASKS = (*ALIVE, StateType.SCHEDULED)
"""A node that waits for its next attempt is SCHEDULED."""
RESTART_SECONDS = 60.0
"""How long a process that retries or resumes a run may take to mark it."""
OUTAGE = (httpx.HTTPError, PrefectException, OSError)
"""What is raised if a server does not answer, or not in time."""
_PAGE = 200
_PAGES = 50


async def find_stale(
    client: PrefectClient, common_dir: Path, own: UUID | None = None, former: Path | None = None
) -> list[FlowRun]:
    """Find the flow runs on this repository that are alive in Prefect but whose process on this host is gone.

    `own` is the calling run. With `former`, the git directory before the repository was moved, its runs there are
    included. Runs on other hosts are not, as their processes cannot be checked from here.
    """
    repository_ids = {find_repository_id(common_dir), find_repository_id(common_dir, former)}
    marked = [(run, read_marks(run)) for run in await list_open(client, FLOW, ALIVE) if run.id != own]
    return [
        run
        for run, marks in marked
        if marks and marks.repository in repository_ids and marks.origin.is_dead() and _is_over(run)
    ]


def _is_over(run: FlowRun) -> bool:
    """Whether nothing continues `run`, as the process in its marks is gone.

    A worker's run may still have the marks of an earlier process while it is retried or resumed. A suspended one waits
    for a person; one that is only paused does not, as resuming it starts no process.
    """
    if run.deployment_id is None or run.state is None:
        return True
    match run.state.type:
        case StateType.PENDING:
            return False
        case StateType.PAUSED:
            return not run.state.state_details.pause_reschedule
        case _:
            age = (datetime.now(UTC) - run.state.timestamp).total_seconds()
            return not is_restarted(run) or age > RESTART_SECONDS


async def end_stale(
    common_dir: Path, own: UUID | None = None, former: Path | None = None, last: RunView | None = None
) -> list[str]:
    """End the runs that `find_stale` finds, and their open task runs, in Prefect; returns a line for each run.

    They are Crashed, except the run of `last`, the view in `run.json`, if it had ended before its process was killed:
    that one ends as its own record and report say.
    """
    async with get_client() as client:
        lines: list[str] = []
        for run in await find_stale(client, common_dir, own, former):
            marks = read_marks(run)
            who = str(marks.origin) if marks else "its process"
            message = f"Its coordinator ({who}) exited uncleanly. The work is kept, and the next run continues it."
            state: State[Any] = _read_ending(run, last, who) or Crashed(message=message)
            # Task runs first: after a kill in between, the flow run is still found.
            await _crash_tasks(client, run.id, message)
            await client.set_flow_run_state(run.id, state, force=True)
            lines.append(f"Marked flow run {run.name} ({run.id}) as {state.name} in Prefect: {who} is gone.")
        return lines


def _read_ending(run: FlowRun, last: RunView | None, who: str) -> State[Any] | None:
    """Return the state that a run ended in without having told Prefect; None if `last` does not say so."""
    if last is None or last.run != str(run.id) or not last.ended or last.exit_code not in list(ExitCode):
        return None
    code = ExitCode(last.exit_code)
    detail = f"Its coordinator ({who}) exited before it had reported this to Prefect."
    return describe_run(
        code, detail, continuation=tell_continuation(code, run.name, is_deployed=bool(run.deployment_id))
    )


async def _crash_tasks(client: PrefectClient, run: UUID, message: str) -> None:
    for _ in range(_PAGES):
        found = await client.read_task_runs(
            task_run_filter=TaskRunFilter(
                flow_run_id=TaskRunFilterFlowRunId(any_=[run]),
                state=TaskRunFilterState(type=TaskRunFilterStateType(any_=list(_ALIVE_TASKS))),
            ),
            limit=_PAGE,
        )
        for task in found:
            await client.set_task_run_state(task.id, Crashed(message=message), force=True)
        if len(found) < _PAGE:
            return
