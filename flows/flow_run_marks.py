"""The marks of a flow run: which process executes it on which repository, to find it again after a kill.

They are labels, which Prefect keeps but its UI does not show. Earlier releases wrote tags; these are still read.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import FlowRunCreate
from prefect.client.schemas.objects import FlowRun, FlowRunPolicy, State, StateType
from prefect.context import AsyncClientContext
from prefect.flow_engine import run_flow_async
from prefect.states import Pending, to_state_create

from flows.mark_labels import GIT_DIR, HOST, INODE, MACHINE, MARKED, PID, STARTED
from tasks_lib.process.machine_identity import identify_machine
from tasks_lib.process.private_directories import is_running

TAGS = ("coordinator",)
"""The tags of flow runs from the command line; deployments have the same."""
_PROCESS_TAG = re.compile(r"process:(?P<host>.*):(?P<pid>[0-9]+):(?P<started>[0-9]+)", re.DOTALL)
_REPOSITORY_TAG = re.compile(r"repository:(?P<git_dir>.*)#(?P<inode>[0-9a-f]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Origin:
    """The process that executes a flow run: `pid` on `host`, started at `started` (seconds since the epoch).

    `machine` is the identity of the host, "" if it is not known: hosts may have the same name.
    """

    host: str
    pid: int
    started: int
    machine: str = ""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_dead(self) -> bool:
        """Whether the process is known to be gone: it was on this host, and has ended."""
        return self._is_here() and not is_running(self.pid, self.started)

    def is_running_here(self) -> bool:
        """Whether the process is running on this host."""
        return self._is_here() and is_running(self.pid, self.started)

    def _is_here(self) -> bool:
        return self.host == socket.gethostname() and self.machine in ("", identify_machine())


@dataclass(frozen=True, slots=True)
class RepositoryId:
    """A repository, by its common git directory and the inode of that; a copy of it has another inode."""

    git_dir: str
    inode: int


@dataclass(frozen=True, slots=True)
class Marks:
    """What is known of a flow run that is, or was, executed.

    `marked` is when the state began in which its process marked it, in seconds since the epoch by Prefect's clock; 0.0
    if that is not known.
    """

    origin: Origin
    repository: RepositoryId
    marked: float = 0.0

    @property
    def labels(self) -> dict[str, str | int | float]:
        origin, repository_id = self.origin, self.repository
        return {
            HOST: origin.host,
            PID: origin.pid,
            STARTED: origin.started,
            GIT_DIR: repository_id.git_dir,
            INODE: repository_id.inode,
            **({MACHINE: origin.machine} if origin.machine else {}),
            **({MARKED: self.marked} if self.marked else {}),
        }


def find_own_origin() -> Origin:
    """Return the origin of this process."""
    return Origin(socket.gethostname(), os.getpid(), int(psutil.Process().create_time()), identify_machine())


def find_repository_id(common_dir: Path, former: Path | None = None) -> RepositoryId:
    """Identify the repository with this git directory; with `former`, as it was when it was there."""
    return RepositoryId(str(former or common_dir), common_dir.stat().st_ino)


def find_own_marks(common_dir: Path, marked: float = 0.0) -> Marks:
    """The marks of a flow run that this process executes on the repository of `common_dir`."""
    return Marks(find_own_origin(), find_repository_id(common_dir), marked)


def read_marks(flow_run: FlowRun) -> Marks | None:
    """Read the marks of a flow run; None if it has none, or not all of them."""
    match flow_run.labels:
        case {
            "coordinator.host": str(host),
            "coordinator.pid": int(pid),
            "coordinator.started": int(started),
            "coordinator.git_dir": str(git_dir),
            "coordinator.inode": int(inode),
        }:
            marked, machine = flow_run.labels.get(MARKED), flow_run.labels.get(MACHINE)
            time_marked = marked if isinstance(marked, float) else 0.0
            origin = Origin(host, pid, started, machine if isinstance(machine, str) else "")
            return Marks(origin, RepositoryId(git_dir, inode), time_marked)
        case _:
            return _read_tags(flow_run.tags)


def _read_tags(tags: list[str]) -> Marks | None:
    """Read the marks that releases before the labels wrote as tags."""
    origins = [found for tag in tags if (found := _PROCESS_TAG.fullmatch(tag))]
    repository_ids = [found for tag in tags if (found := _REPOSITORY_TAG.fullmatch(tag))]
    if not (origins and repository_ids):
        return None
    origin, repository_id = origins[0], repository_ids[0]
    return Marks(
        Origin(origin["host"], int(origin["pid"]), int(origin["started"])),
        RepositoryId(repository_id["git_dir"], int(repository_id["inode"], 16)),
    )


def is_marked(flow_run: FlowRun) -> bool:
    """Whether a flow run is marked as executed by this process."""
    marks = read_marks(flow_run)
    return marks is not None and marks.origin == find_own_origin()


def is_restarted(flow_run: FlowRun) -> bool:
    """Whether a worker's run was set to Running after it was marked: the marks may be those of an earlier process.

    A process that retries or resumes a run marks it a moment after it has set it to Running.
    """
    marks, state = read_marks(flow_run), flow_run.state
    if flow_run.deployment_id is None or marks is None or not marks.marked or state is None:
        return False
    return state.type is StateType.RUNNING and state.timestamp.timestamp() > marks.marked


async def mark_flow_run(flow_run: FlowRun, common_dir: Path) -> None:
    """Mark a flow run as executed by this process; one that is retried had the marks of an earlier process."""
    async with get_client() as client:
        state = (await client.read_flow_run(flow_run.id)).state
        marks = find_own_marks(common_dir, state.timestamp.timestamp() if state else 0.0)
        await client.update_flow_run_labels(flow_run.id, dict(marks.labels))


async def run_marked(flow: Flow[..., Any], parameters: Mapping[str, Any], common_dir: Path) -> State[Any]:
    """Run `flow` in this process, and return its final state.

    A flow that is simply called has no labels at first, so a kill then would leave a flow run that nobody recognizes.
    This creates the flow run with its marks.
    """
    async with AsyncClientContext.get_or_create() as context:
        client = context.client
        request = FlowRunCreate(
            flow_id=await client.create_flow(flow),
            flow_version=flow.version,
            parameters=flow.serialize_parameters(dict(parameters)),
            tags=list(TAGS),
            labels=dict(find_own_marks(common_dir).labels),
            state=to_state_create(Pending()),
            empirical_policy=FlowRunPolicy(retries=flow.retries, retry_delay=int(flow.retry_delay_seconds or 0)),
        )
        answer = await client.request("POST", "/flow_runs/", json=request.model_dump(mode="json", exclude_unset=True))
        flow_run = FlowRun.model_validate(answer.json())
        return cast("State[Any]", await run_flow_async(flow, flow_run, dict(parameters), return_type="state"))
