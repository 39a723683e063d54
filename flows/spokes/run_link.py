"""The run's end of the connection to its sessions on spokes: flow runs, their inputs, and their labels."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType, WorkerStatus
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.states import Cancelled

from flows.open_flow_runs import list_open
from flows.prefect_reporting import FAULTS, explain
from flows.spokes.session_labels import MESSAGE_PREFIX, PROGRESS, PULSE, REPORT, SESSION_DEPLOYMENT, SESSION_FLOW
from tasks_lib.errors import RemoteError
from tasks_lib.session.remote_messages import HubMessage, SessionOrder, read_progress, read_report, write_message
from tasks_lib.spokes.link import Machine, News

T = TypeVar("T")
POLL_SECONDS = 1.0
"""How often the run asks about all of its sessions together, with one request."""
LONGEST_STEP = 3.0
"""A poll that took longer counts as this much silence of a session: the server was busy, or away."""
WAKE_SECONDS = 20.0
PATIENCE_SECONDS = 180.0
"""How long a request is repeated while the server does not answer."""
PAUSE_SECONDS = 2.0
CALL_SECONDS = 20.0
OPEN_STATES = [state for state in StateType if state not in TERMINAL_STATES]


@dataclass(slots=True)
class Watched:
    """A session's flow run that the run asks about."""

    news: News = field(default_factory=News)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    seen: object = None


class PrefectSpokeLink:
    """Starts sessions in the work pool `pool`, and follows them; use `linking`, which polls."""

    def __init__(self, client: PrefectClient, pool: str) -> None:
        self._client = client
        self._pool = pool
        self._deployment: UUID | None = None
        self._runs: dict[str, Watched] = {}

    async def start(self, order: SessionOrder, machine: str) -> str:
        """Start a session in the queue of `machine`; the same order is started once only. Raises RemoteError."""

        async def create() -> FlowRun:
            if self._deployment is None:
                name = f"{SESSION_FLOW}/{SESSION_DEPLOYMENT}"
                self._deployment = (await self._client.read_deployment_by_name(name)).id
            return await self._client.create_flow_run_from_deployment(
                self._deployment,
                parameters={"order": json.loads(write_message(order))},
                name=f"{order.node} on {machine}",
                idempotency_key=f"{order.hub}-{order.session}-{order.generation}",
                work_queue_name=machine,
            )

        return str((await self._try(create)).id)

    async def send(self, run: str, key: str, message: HubMessage) -> None:
        """Send a message as an input of the flow run; one with the same key is not sent again. Raises RemoteError."""

        async def create() -> None:
            with suppress(ObjectAlreadyExists):
                try:
                    await self._client.create_flow_run_input(
                        UUID(run), f"{MESSAGE_PREFIX}{key}", write_message(message)
                    )
                except httpx.HTTPStatusError as error:
                    if error.response.status_code != HTTPStatus.CONFLICT:
                        raise

        await self._try(create)

    async def next_news(self, run: str, seen: int) -> News:
        """Return what is known of a flow run once that is new, or after `WAKE_SECONDS`."""
        watched = self._runs.setdefault(run, Watched())
        with suppress(TimeoutError):
            async with asyncio.timeout(WAKE_SECONDS), watched.changed:
                while watched.news.number <= max(seen, 0):
                    await watched.changed.wait()
        return watched.news

    async def stop(self, run: str) -> None:
        """Set the flow run to Cancelled: its worker may be gone, and a living one notices. Raises RemoteError."""
        state = Cancelled(message="Its run does not continue this session.")
        await self._try(lambda: self._client.set_flow_run_state(UUID(run), state, force=True))

    async def list_sessions(self, hub: str) -> Sequence[tuple[str, str]]:
        """List the sessions of the runs of `hub` that have not ended, with their flow runs. Raises RemoteError."""
        runs = await self._try(lambda: list_open(self._client, SESSION_FLOW, OPEN_STATES))
        orders = [(run.parameters.get("order", {}), str(run.id)) for run in runs]
        return [(str(order.get("session")), run) for order, run in orders if order.get("hub") == hub]

    async def list_machines(self) -> Sequence[Machine]:
        """List the workers of the pool, none if there is no pool. Raises RemoteError if the server does not answer."""
        try:
            workers = await self._client.read_workers_for_work_pool(self._pool)
        except FAULTS as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == HTTPStatus.NOT_FOUND:
                return []  # The first worker makes it.
            raise RemoteError(f"Prefect did not say which spokes are online: {explain(error)}") from error
        return [Machine(worker.name, worker.status == WorkerStatus.ONLINE) for worker in workers]

    async def poll(self) -> None:
        """Follow the flow runs that were asked about, until cancelled."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            open_runs = [run for run, watched in self._runs.items() if not watched.news.ended]
            if not open_runs:
                last = loop.time()
                continue
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    found = await self._read(open_runs)
            except FAULTS:
                last = loop.time()  # An outage is not a silence of the sessions.
                continue
            passed, last = min(loop.time() - last, LONGEST_STEP), loop.time()
            for run in open_runs:
                await self._note(self._runs[run], found.get(run), passed)

    async def _read(self, runs: Sequence[str]) -> dict[str, FlowRun]:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run) for run in runs]))
        return {str(run.id): run for run in await self._client.read_flow_runs(flow_run_filter=wanted)}

    async def _note(self, watched: Watched, run: FlowRun | None, passed: float) -> None:
        news = replace(watched.news, silent_seconds=watched.news.silent_seconds + passed)
        told = (run.labels.get(PROGRESS), run.labels.get(REPORT), run.labels.get(PULSE)) if run else None
        state = run.state if run else None
        if (told, state and state.id) != watched.seen:
            news = replace(news, silent_seconds=0.0)
            watched.seen = (told, state and state.id)
        if run:
            news = replace(news, pulse=str(run.labels.get(PULSE, "")))
            with suppress(ValueError):
                news = replace(news, progress=read_progress(str(run.labels.get(PROGRESS, ""))))
            with suppress(ValueError):
                news = replace(news, report=read_report(str(run.labels.get(REPORT, ""))))
        if run is None:
            news = replace(news, ended="its flow run was deleted")
        elif state and state.is_final():
            said = f" ({state.message})" if state.message else ""
            news = replace(news, ended=f"its flow run is {state.name}{said}")
        is_known = watched.news.number > 0
        if is_known and replace(news, silent_seconds=0.0) == replace(watched.news, silent_seconds=0.0):
            watched.news = news
            return
        async with watched.changed:
            watched.news = replace(news, number=watched.news.number + 1)
            watched.changed.notify_all()

    async def _try(self, request: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `request`, repeated while the server does not answer. Raises RemoteError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    return await request()
            except FAULTS as error:
                status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 0
                is_refusal = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
                if is_refusal or isinstance(error, ObjectNotFound) or loop.time() - began > PATIENCE_SECONDS:
                    raise RemoteError(f"Prefect: {explain(error)}") from error
            await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def linking(pool: str) -> AsyncGenerator[PrefectSpokeLink]:
    """Yield a link to the spokes of a work pool, which follows its sessions while the block runs."""
    async with get_client() as client:
        link = PrefectSpokeLink(client, pool)
        polling: asyncio.Task[Any] = asyncio.create_task(link.poll(), name="spokes")
        try:
            yield link
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
