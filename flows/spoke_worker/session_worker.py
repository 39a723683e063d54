"""The worker of a spoke: takes sessions from its work queue, and runs all of them in this one process.

    python -m flows.spoke_worker.session_worker --pool coordinator-sessions --name north

Sessions share the agent's servers and the copies of repositories, and start without a new interpreter. On a signal the
worker takes no new sessions, ends those that run with their work pushed, and exits. A second signal ends it at once.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
    WorkQueueFilter,
    WorkQueueFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed, Running
from prefect.workers.process import ProcessWorker, ProcessWorkerResult

from flows.data_directory import data_dir
from flows.deployment_version import own_release
from flows.local_stack.graph_worker import HEARTBEAT_SECONDS, GraphWorker, listen_to_input
from flows.spoke_worker.session_deployment import ensure_queue, ensure_sessions
from flows.spoke_worker.session_link import host_session
from flows.spokes.registry import clean_up_copies, list_remotes
from flows.spokes.worker_lock import holding_worker_lock
from flows.termination_signals import on_signals
from tasks_lib.process.private_directories import name_owner, private_directory
from tasks_lib.spokes.machine import SpokeMachine

QUERY_SECONDS = 0.5
"""How often the worker asks for sessions; nothing else takes long between an order and its prompt."""
ALIVE = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
LIMIT = 1000
"""Sessions that wait for their next turn count too; runs limit those that work (`spokes.sessions_each`)."""
DRAIN_SECONDS = 150.0


class SessionHostWorker(ProcessWorker):
    """Prefect's process worker, which runs flow runs of sessions in its own process instead of starting one each.

    Set `client` and `machine` before the first run.
    """

    host_client: PrefectClient
    machine: SpokeMachine
    jobs: set["asyncio.Task[None]"]

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Keep Prefect from taking this class for its own type `process`, and from warning of two of them."""
        return "coordinator-session-host"

    async def run(self, flow_run: FlowRun, configuration: Any, task_status: Any = None) -> ProcessWorkerResult:
        """Run one session to its end; called by Prefect."""
        job = asyncio.create_task(self._host(flow_run), name=flow_run.name)
        self.jobs.add(job)
        job.add_done_callback(self.jobs.discard)
        if task_status is not None:
            task_status.started(os.getpid())
        await asyncio.wait([job])
        return ProcessWorkerResult(status_code=0, identifier=str(os.getpid()))

    async def _host(self, flow_run: FlowRun) -> None:
        await self.host_client.set_flow_run_state(flow_run.id, Running(), force=True)
        state = await host_session(self.host_client, self.machine, flow_run, flow_run.parameters)
        await self.host_client.set_flow_run_state(flow_run.id, state, force=True)


class SessionWorker(GraphWorker):
    """Takes sessions until it is told to stop, and then ends them with their work pushed."""

    query_seconds: float = QUERY_SECONDS

    def __init__(self, worker: SessionHostWorker, client: PrefectClient, pool: str) -> None:
        super().__init__(worker, client)
        self._sessions = worker
        self._pool = pool

    async def _prepare_pool(self) -> None:
        """Make the pool and the queue again if the server has lost them, as after a move to another database."""
        try:
            await self._client.read_work_queue_by_name(self._sessions.machine.name, self._pool)
        except ObjectNotFound:
            await ensure_sessions(self._client, self._pool)
            await ensure_queue(self._client, self._pool, self._sessions.machine.name)
            tell(f"The server had lost the work pool {self._pool}, which was made again.")

    async def _drain(self) -> None:
        jobs = set(self._sessions.jobs)
        what = "session" if len(jobs) == 1 else "sessions"
        ends = f", and ends {len(jobs)} {what}, whose work is pushed" if jobs else ""
        tell(f"{self._sessions.machine.name} takes no more sessions{ends}.")
        for job in jobs:
            job.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while jobs and self.presses < 2:
                    _, jobs = await asyncio.wait(jobs, timeout=0.5)


async def end_killed(client: PrefectClient, pool: str, queue: str) -> None:
    """End the flow runs of sessions that a killed worker of this machine left, so that their runs hear of it."""
    alive = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(ALIVE))))
    left = await client.read_flow_runs(
        flow_run_filter=alive,
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        work_queue_filter=WorkQueueFilter(name=WorkQueueFilterName(any_=[queue])),
    )
    for run in left:
        state = Crashed(message=f"The worker on {queue} was killed. What the session had pushed is on the git remote.")
        await client.set_flow_run_state(run.id, state, force=True)


def tell(line: str) -> None:
    """Print a line for the person who looks at this terminal, or at its log."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def serve_sessions(pool: str, name: str, *, is_child: bool = False) -> None:
    """Take sessions of `pool` for the machine `name` until a signal; as a child also until the end of its input."""
    loop = asyncio.get_running_loop()
    owner = name_owner(data_dir() / "spokes")
    with private_directory(owner) as private:
        machine = SpokeMachine(name, own_release(), list_remotes, data_dir(), private, tell)
        async with get_client() as client:
            await ensure_sessions(client, pool)
            await ensure_queue(client, pool, name)
            for line in await asyncio.to_thread(clean_up_copies, data_dir()):
                tell(line)
            await end_killed(client, pool, name)
            worker = SessionHostWorker(
                pool,
                work_queues=[name],
                name=name,
                limit=LIMIT,
                heartbeat_interval_seconds=HEARTBEAT_SECONDS,
                create_pool_if_not_found=False,
            )
            worker.host_client, worker.machine, worker.jobs = client, machine, set()
            async with worker:
                taking = SessionWorker(worker, client, pool)

                def call(method: Callable[[], None]) -> None:
                    with suppress(RuntimeError):  # The loop is closed, so the worker is already ending.
                        loop.call_soon_threadsafe(method)

                with on_signals(lambda _: call(taking.press)):
                    if is_child:
                        listen_to_input(lambda: call(taking.press))
                    tell(f"{name} is ready for sessions of the work pool {pool}.")
                    await taking.work()
            await machine.close()


def main() -> None:
    """Run the worker; another one on the same data directory is refused."""
    parser = argparse.ArgumentParser(prog="session_worker", description="Run sessions of a Prefect work pool.")
    parser.add_argument("--pool", required=True)
    parser.add_argument("--name", required=True)
    options = parser.parse_args(sys.argv[1:])
    with holding_worker_lock(data_dir()):
        asyncio.run(serve_sessions(options.pool, options.name, is_child=True))
    sys.stdout.flush()
    os._exit(0)  # Prefect's threads could wait for a server that is gone.


if __name__ == "__main__":
    main()
