"""Finds flow runs of a repository whose coordinator died without telling Prefect, and says there that they crashed."""

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
"""A run that is only scheduled was never begun, and may begin yet."""
_ALIVE_TASKS = (*ALIVE, StateType.SCHEDULED)
"""A node that waits for its next attempt is scheduled."""
OUTAGE = (httpx.HTTPError, PrefectException, OSError)
"""What a server that does not answer, or not in time, raises."""
_PAGE = 200
_PAGES = 50


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a flow run is worked: by the process `pid` on `host` that began at `started` (seconds since the epoch)."""

    host: str
    pid: int
    started: int

    @property
    def tag(self) -> str:
        return f"process:{self.host}:{self.pid}:{self.started}"


def find_own_origin() -> Origin:
    """Of this process."""
    return Origin(socket.gethostname(), os.getpid(), int(psutil.Process().create_time()))


def read_origin(tags: Collection[str]) -> Origin | None:
    """What the tags of a flow run say of where it is worked; None if they do not."""
    for tag in tags:
        match tag.rsplit(":", 2):
            case [kind_and_host, pid, started] if kind_and_host.startswith("process:"):
                if pid.isdecimal() and started.isdecimal():
                    return Origin(kind_and_host.removeprefix("process:"), int(pid), int(started))
            case _:
                pass
    return None


def name_repository(common_dir: Path, former: Path | None = None) -> str:
    """The tag of all flow runs that work the repository with this git directory; a copy of it elsewhere has another.

    With `former`, the tag that they had when the directory was there.
    """
    return f"repository:{former or common_dir}#{common_dir.stat().st_ino:x}"


def list_tags(common_dir: Path) -> list[str]:
    """The tags by which a flow run of this process, on the repository of `common_dir`, is known after its death."""
    return [name_repository(common_dir), find_own_origin().tag]


async def tag_flow_run(flow_run: FlowRun, common_dir: Path) -> None:
    """See that a flow run has its tags: one that a worker began has those of its deployment alone."""
    wanted = list_tags(common_dir)
    if not set(wanted) <= set(flow_run.tags):
        async with get_client() as client:
            kept = [tag for tag in flow_run.tags if tag not in wanted]
            await client.update_flow_run(flow_run.id, tags=[*kept, *wanted])


async def find_stale(
    client: PrefectClient, common_dir: Path, own: UUID | None = None, former: Path | None = None
) -> list[FlowRun]:
    """The flow runs on this repository that Prefect takes for alive and whose process on this host is gone.

    `own` is the run that asks, `former` where the repository was before it was moved. Those of other hosts are never
    among them: from here nobody can tell.
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
    """Set the runs that `find_stale` finds, and what is open of their task runs, to Crashed; a line for each."""
    async with get_client() as client:
        lines: list[str] = []
        stale = await find_stale(client, common_dir, own)
        stale += await find_stale(client, common_dir, own, former) if former else []
        for run in stale:
            origin = read_origin(run.tags)
            who = f"process {origin.pid} on {origin.host}" if origin else "its process"
            message = f"Its coordinator ({who}) ended without a word; the work is kept, and another run goes on."
            # Its tasks first: after a kill in between, the flow run is still found.
            await _crash_tasks(client, run.id, message)
            await client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            lines.append(f"Prefect is told that the flow run {run.name} ({run.id}) crashed: {who} is gone.")
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
