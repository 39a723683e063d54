"""Finds flow runs whose coordinator was killed, and marks them as Crashed in Prefect."""

import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectException
from prefect.states import Crashed

from tasks_lib.process.private_directories import is_running

FLOW = "run-graph"
ALIVE = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
"""Not SCHEDULED: such a run was never started, and may still start."""
_ALIVE_TASKS = (*ALIVE, StateType.SCHEDULED)
"""A node that waits for its next attempt is SCHEDULED."""
OUTAGE = (httpx.HTTPError, PrefectException, OSError)
"""What is raised if a server does not answer, or not in time."""
_PAGE = 200
_PAGES = 50


@dataclass(frozen=True, slots=True)
class Origin:
    """The process that executes a flow run: `pid` on `host`, started at `started` (seconds since the epoch)."""

    host: str
    pid: int
    started: int

    @property
    def tag(self) -> str:
        return f"process:{self.host}:{self.pid}:{self.started}"


def find_own_origin() -> Origin:
    """Return the origin of this process."""
    return Origin(socket.gethostname(), os.getpid(), int(psutil.Process().create_time()))


def read_origin(tags: Collection[str]) -> Origin | None:
    """Read the origin of a flow run from its tags; None if they do not contain it."""
    for tag in tags:
        match tag.rsplit(":", 2):
            case [kind_and_host, pid, started] if kind_and_host.startswith("process:"):
                if pid.isdecimal() and started.isdecimal():
                    return Origin(kind_and_host.removeprefix("process:"), int(pid), int(started))
            case _:
                pass
    return None


def name_repository(common_dir: Path, former: Path | None = None) -> str:
    """The tag of all flow runs on the repository with this git directory; a copy of it has another tag.

    With `former`, the tag from when the repository was there.
    """
    return f"repository:{former or common_dir}#{common_dir.stat().st_ino:x}"


def list_tags(common_dir: Path) -> list[str]:
    """The tags that identify a flow run of this process on the repository of `common_dir`, even after a kill."""
    return [name_repository(common_dir), find_own_origin().tag]


async def tag_flow_run(flow_run: FlowRun, common_dir: Path) -> None:
    """Add the tags to a flow run: one started by a worker only has those of its deployment."""
    wanted = list_tags(common_dir)
    if not set(wanted) <= set(flow_run.tags):
        async with get_client() as client:
            kept = [tag for tag in flow_run.tags if tag not in wanted]
            await client.update_flow_run(flow_run.id, tags=[*kept, *wanted])


async def find_stale(
    client: PrefectClient, common_dir: Path, own: UUID | None = None, former: Path | None = None
) -> list[FlowRun]:
    """Find the flow runs on this repository that are alive in Prefect but whose process on this host is gone.

    `own` is the calling run, `former` the repository's path before it was moved. Runs on other hosts are not included,
    as their processes cannot be checked from here.
    """
    found = await client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[name_repository(common_dir, former)]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(ALIVE))),
        ),
        limit=_PAGE,
    )
    return [run for run in found if run.id != own and _is_dead(run)]


def _is_dead(run: FlowRun) -> bool:
    origin = read_origin(run.tags)
    return origin is not None and origin.host == socket.gethostname() and not is_running(origin.pid, origin.started)


async def crash_stale(common_dir: Path, own: UUID | None = None, former: Path | None = None) -> list[str]:
    """Set the runs that `find_stale` finds, and their open task runs, to Crashed; returns a line for each run."""
    async with get_client() as client:
        lines: list[str] = []
        stale = await find_stale(client, common_dir, own)
        stale += await find_stale(client, common_dir, own, former) if former else []
        for run in stale:
            origin = read_origin(run.tags)
            who = f"process {origin.pid} on {origin.host}" if origin else "its process"
            message = f"Its coordinator ({who}) exited uncleanly. The work is kept, and the next run continues it."
            # Task runs first: after a kill in between, the flow run is still found.
            await _crash_tasks(client, run.id, message)
            await client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            lines.append(f"Marked flow run {run.name} ({run.id}) as Crashed in Prefect: {who} is gone.")
        return lines


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


__all__: Sequence[str] = ("crash_stale", "find_stale", "list_tags", "name_repository", "read_origin", "tag_flow_run")
