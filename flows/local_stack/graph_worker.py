"""The worker of `coordinator up`: takes due flow runs from a work pool, and starts a process for each.

    python -m flows.local_stack.graph_worker --pool coordinator --name coordinator-hub --limit 8

On a signal it takes no new runs, stops those that it has started as `coordinator abort --all` does, and exits once they
have ended. A second signal ends them at once. At the end of standard input, which means that `coordinator up` was
killed, it takes no new runs, and exits once those that it has started have ended by themselves.
"""

import argparse
import asyncio
import fcntl
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows.deployments.definitions import COMMAND
from flows.local_stack.collisions import Collisions
from flows.request_messages import RequestKind, UserRequest, new_key, write_request
from flows.termination_signals import on_signals

QUERY_SECONDS = 1.0
"""How often the worker asks for due runs. Starting a run takes three seconds, so asking more often gains little."""
HEARTBEAT_SECONDS = 10
"""Prefect shows a worker as offline after three missed heartbeats; with its default only after 90 seconds."""
LOOK_SECONDS = 0.5
STOP_SECONDS = 180.0
"""How long runs may take to stop their sessions before they are told by a signal, and later ended."""
TERM_SECONDS = 60.0
LEAVE_SECONDS = 10.0
PREFETCH_SECONDS = 0.0
"""A run is taken when it is due. Prefect's worker takes it ten seconds earlier, and a run that meets one still in
progress then is cancelled, although that one may have ended when it is due."""
LOG_VARIABLE = "COORDINATOR_UP_LOG"
_OUTAGE = (httpx.HTTPError, PrefectException, OSError, ValueError, RuntimeError)
_logger = logging.getLogger("prefect.coordinator.worker")


class LoggedJob(ProcessJobConfiguration):
    """How the worker starts a run: with its output in the worker's log file.

    Prefect's own way is a pipe to the worker. If the worker is killed, the run would end at its next line of output.
    """

    def prepare_for_flow_run(self, *args: Any, **keys: Any) -> None:
        """Wrap the command, which is Prefect's or the deployment's; called by the worker."""
        self.stream_output = False
        if log := os.environ.get(LOG_VARIABLE):
            words = shlex.split(self.command or COMMAND)
            self.command = shlex.join(["sh", "-c", 'exec "$@" >> "$0" 2>&1', log, *words])
        super().prepare_for_flow_run(*args, **keys)


class GraphWorker:
    """Takes runs until it is told to stop, and then ends those that it has started.

    It uses Prefect's process worker, but not its loop, which on a signal would wait for its runs without telling them.
    """

    query_seconds: float = QUERY_SECONDS

    def __init__(self, worker: "ProcessWorker", client: PrefectClient) -> None:
        self._worker = worker
        self._client = client
        self._runs: set[UUID] = set()
        self._told: set[UUID] = set()
        self._collisions = Collisions(client, str(client.api_url))
        self._wake = asyncio.Event()
        self.presses: int = 0
        self.is_abandoned: bool = False

    def press(self) -> None:
        """Stop the worker and its runs; the second time at once."""
        self.presses += 1
        self._wake.set()

    def abandon(self) -> None:
        """Stop the worker once its runs have ended by themselves."""
        self.is_abandoned = True
        self._wake.set()

    async def work(self) -> None:
        """Take due runs until `press` or `abandon`, then wait until none is left."""
        loop = asyncio.get_running_loop()
        next_beat = loop.time() + HEARTBEAT_SECONDS
        while not (self.presses or self.is_abandoned):
            try:
                if loop.time() >= next_beat or not self._has_pool():
                    await self._prepare_pool()
                    await self._worker.sync_with_backend()
                    next_beat = loop.time() + HEARTBEAT_SECONDS
                await self._take_due()
                await self._collisions.explain()
            except _OUTAGE as error:
                _logger.warning("Prefect's server did not answer and is asked again: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.query_seconds):
                    await self._wake.wait()
        await self._leave_pool()
        await self._drain()

    async def _prepare_pool(self) -> None:
        """Called before each heartbeat; `coordinator up` makes the pool of graphs."""

    async def _take_due(self) -> None:
        for run in await self._worker.get_and_submit_flow_runs():
            self._runs.add(run.id)
            self._collisions.watch(run.id)

    async def _leave_pool(self) -> None:
        """Take the worker off Prefect's list, which would show it as online for half a minute more."""
        with suppress(*_OUTAGE):
            async with asyncio.timeout(LEAVE_SECONDS):
                where = {"work_pool_name": self._worker.work_pool.name, "name": self._worker.name}
                await self._client.request("DELETE", "/work_pools/{work_pool_name}/workers/{name}", path_params=where)

    async def _drain(self) -> None:
        """Wait until the runs have ended: they are asked to stop, then told by a signal, then killed."""
        loop = asyncio.get_running_loop()
        began = 0.0
        is_told = False
        while self._count():
            began = began or (loop.time() if self.presses else 0.0)
            waited = loop.time() - began if began else 0.0
            if self.presses > 1 or waited > STOP_SECONDS + TERM_SECONDS:
                await end_children()
            elif waited > STOP_SECONDS and not is_told:
                is_told = True
                signal_children(signal.SIGTERM)
            elif self.presses:
                await self._ask_to_stop()
            await asyncio.sleep(LOOK_SECONDS)

    def _has_pool(self) -> bool:
        """Whether the work pool has been read; `coordinator up` may still be making it."""
        try:
            return bool(self._worker.work_pool)
        except RuntimeError:
            return False

    def _count(self) -> int:
        """How many runs are being started or are running."""
        return int(self._worker.limiter.borrowed_tokens)

    async def _ask_to_stop(self) -> None:
        """Send each run that has not ended the request that `coordinator abort --all` sends; it also ends its inbox.

        If the server does not answer, a signal tells the runs, which works only once they have started.
        """
        for run in self._runs - self._told:
            try:
                state = (await self._client.read_flow_run(run)).state
                if state is None or not state.is_final():
                    request = write_request(UserRequest(RequestKind.STOP))
                    await self._client.create_flow_run_input(run, new_key(), request)
            except ObjectNotFound:
                pass
            except _OUTAGE as error:
                _logger.warning("Run %s is told to stop by a signal: %s", run, error)
                signal_children(signal.SIGTERM)
                self._told |= self._runs
                return
            self._told.add(run)


def signal_children(number: signal.Signals) -> None:
    """Send a signal to each process of a run that this worker has started."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            child.send_signal(number)


async def end_children() -> None:
    """End the processes of all runs and their sessions: with TERM, and after a few seconds with KILL."""
    members = psutil.Process().children(recursive=True)
    signal_children(signal.SIGTERM)
    _, alive = await asyncio.to_thread(psutil.wait_procs, members, LEAVE_SECONDS)
    for member in alive:
        with suppress(psutil.Error):
            member.kill()


def listen_to_input(hear: Callable[[], object]) -> None:
    """Call `hear` in a thread when standard input ends."""

    def read() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        hear()

    threading.Thread(target=read, name="input", daemon=True).start()


async def serve_pool(pool: str, name: str, limit: int) -> None:
    """Work in `pool` under `name`, with at most `limit` runs at a time, until a signal or the end of input."""
    loop = asyncio.get_running_loop()
    made: ProcessWorker = ProcessWorker(
        pool, name=name, limit=limit, prefetch_seconds=PREFETCH_SECONDS,
        heartbeat_interval_seconds=HEARTBEAT_SECONDS, create_pool_if_not_found=False,
    )  # fmt: skip
    made.job_configuration = LoggedJob
    async with get_client() as client, made:
        worker = GraphWorker(made, client)

        def call(method: Callable[[], None]) -> None:
            with suppress(RuntimeError):  # The loop is closed, so the worker is already ending.
                loop.call_soon_threadsafe(method)

        with on_signals(lambda _: call(worker.press)):
            listen_to_input(lambda: call(worker.abandon))
            await worker.work()


def parse(arguments: Collection[str]) -> dict[str, Any]:
    """Parse the command line into the arguments of `serve_pool`."""
    parser = argparse.ArgumentParser(prog="graph_worker", description="Run due flow runs of a Prefect work pool.")
    parser.add_argument("--pool", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--log", type=Path, help="where the output of runs goes")
    parser.add_argument("--hold", type=Path, help="a file to lock")
    return vars(parser.parse_args([*arguments]))


def main() -> None:
    """Run the worker. It holds a shared lock on the file `--hold`, by which others know that the server is in use."""
    options = parse(sys.argv[1:])
    if log := options.pop("log"):
        os.environ[LOG_VARIABLE] = str(log)
    with ExitStack() as stack:
        if held := options.pop("hold"):
            fcntl.flock(stack.enter_context(held.open("w")), fcntl.LOCK_SH)
        asyncio.run(serve_pool(**options))
    os._exit(0)  # Prefect's threads could wait for a server that is gone.


if __name__ == "__main__":
    main()
