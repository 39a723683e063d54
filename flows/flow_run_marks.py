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
from prefect.client.schemas.objects import FlowRun, FlowRunPolicy, State
from prefect.context import AsyncClientContext
from prefect.flow_engine import run_flow_async
from prefect.states import Pending, to_state_create

from flows.mark_labels import GIT_DIR, HOST, INODE, PID, STARTED
from tasks_lib.process.private_directories import is_running

TAGS = ("coordinator",)
"""The tags of flow runs from the command line; deployments have the same."""
_PROCESS_TAG = re.compile(r"process:(?P<host>.*):(?P<pid>[0-9]+):(?P<started>[0-9]+)", re.DOTALL)
_REPOSITORY_TAG = re.compile(r"repository:(?P<git_dir>.*)#(?P<inode>[0-9a-f]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Origin:
    """The process that executes a flow run: `pid` on `host`, started at `started` (seconds since the epoch)."""

    host: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_dead(self) -> bool:
        """Whether the process is known to be gone: it was on this host, and has ended."""
        return self.host == socket.gethostname() and not is_running(self.pid, self.started)


@dataclass(frozen=True, slots=True)
class RepositoryId:
    """A repository, by its common git directory and the inode of that; a copy of it has another inode."""

    git_dir: str
    inode: int


@dataclass(frozen=True, slots=True)
class Marks:
    """What is known of a flow run that is, or was, executed."""

    origin: Origin
    repository: RepositoryId

    @property
    def labels(self) -> dict[str, str | int]:
        origin, repository_id = self.origin, self.repository
        return {
            HOST: origin.host,
            PID: origin.pid,
            STARTED: origin.started,
            GIT_DIR: repository_id.git_dir,
            INODE: repository_id.inode,
        }


def find_own_origin() -> Origin:
    """Return the origin of this process."""
    return Origin(socket.gethostname(), os.getpid(), int(psutil.Process().create_time()))


def find_repository_id(common_dir: Path, former: Path | None = None) -> RepositoryId:
    """Identify the repository with this git directory; with `former`, as it was when it was there."""
    return RepositoryId(str(former or common_dir), common_dir.stat().st_ino)


def find_own_marks(common_dir: Path) -> Marks:
    """The marks of a flow run that this process executes on the repository of `common_dir`."""
    return Marks(find_own_origin(), find_repository_id(common_dir))


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
            return Marks(Origin(host, pid, started), RepositoryId(git_dir, inode))
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


async def mark_flow_run(flow_run: FlowRun, common_dir: Path) -> None:
    """Mark a flow run as executed by this process; one that is retried had the marks of an earlier process."""
    async with get_client() as client:
        await client.update_flow_run_labels(flow_run.id, dict(find_own_marks(common_dir).labels))


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
