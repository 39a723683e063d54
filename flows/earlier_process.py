"""Decides between two processes of one flow run: it may be retried or resumed while its earlier process is ending."""

import asyncio
from contextlib import suppress
from pathlib import Path

from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from flows.flow_run_marks import Origin, find_own_origin, is_marked, is_restarted, mark_flow_run, read_marks
from flows.prefect_reporting import PrefectConnection

END_SECONDS = 180.0
"""How long the earlier process may take to stop its sessions and to end the merge that is being verified."""
MARK_SECONDS = 5.0
"""How long a process that resumes a run may take to mark it; it does that first of all."""
LOOK_SECONDS = 0.5


async def take_over(flow_run: FlowRun, common_dir: Path, connection: PrefectConnection) -> None:
    """Mark the run of a worker as executed by this process, and wait until its earlier process has ended, if any."""
    earlier = read_marks(flow_run)
    await connection.call(lambda: mark_flow_run(flow_run, common_dir))
    if earlier and earlier.origin.is_running_here():
        await _wait_for_end(earlier.origin)


async def _wait_for_end(origin: Origin) -> None:
    """Wait for a limited time; if the repository is in use even then, the run ends as busy."""
    get_run_logger().info("This run was resumed before %s had ended, which is stopping its sessions: waiting.", origin)
    with suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            while origin.is_running_here():  # noqa: ASYNC110 - Nothing announces the end of a process that is no child.
                await asyncio.sleep(LOOK_SECONDS)


async def is_taken_over(client: PrefectClient, flow_run: FlowRun) -> bool:
    """Whether another process on this machine executes `flow_run` now, so that this one must not end it.

    `flow_run` is as Prefect has it. Waits a moment for a process that has set it to Running but not marked it yet.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(MARK_SECONDS):
            while is_marked(flow_run) and is_restarted(flow_run):
                await asyncio.sleep(LOOK_SECONDS)
                flow_run = await client.read_flow_run(flow_run.id)
    marks = read_marks(flow_run)
    return marks is not None and marks.origin != find_own_origin() and marks.origin.is_running_here()
