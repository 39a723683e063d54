"""Receives requests to a run through Prefect, and answers them: flow run inputs, a cancellation, and a pause."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRunInput, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectException

from flows.prefect_events import EventEmitter
from flows.prefect_reporting import STOPS, PrefectConnection
from flows.request_messages import (
    REQUEST_PREFIX,
    Answer,
    Policy,
    RequestKind,
    UserRequest,
    answers_key,
    read_request,
    write_answers,
)
from flows.resolved_event import VERB, describe_resolved, name_place
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import CoordinatorError
from tasks_lib.graph.spawned_tasks import list_spawned
from tasks_lib.landing.resolution import describe, find_resolution_in_run, resolve_in_run
from tasks_lib.landing.spawning import SpawnOrder, describe_spawned, spawn_in_run
from tasks_lib.model import PersonsWord
from tasks_lib.node.landing_approval import request_landing
from tasks_lib.node.taking import Taker, take_in_run
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.runtime.absent_nodes import describe_new_name, find_new_name
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.user_requests import RequestResult

POLL_SECONDS = 1.0
"""How often the run polls, as Prefect does not announce inputs; a poll takes 7 ms of CPU time."""
POLLS_PER_STATE = 2
"""The run reads its own state on every second poll, so within 2 seconds."""
HANDLE_SECONDS = 8.0
"""How long a node may take to handle a request, so that the terminal gets an answer before it gives up."""
MAX_POLL_SECONDS = 15.0
"""How long one poll may take; Prefect's client would retry for a minute if the server is gone."""
CLOSE_SECONDS = 5.0
RESOLVE_SECONDS = 4.0
"""How long a sender waits while a merge is being verified; then it is told that the commit will be made."""
MAX_REQUESTS = 20
"""Maximum number of requests per poll; the rest is read by the next."""
TRIES = 3
_OUTAGE = (httpx.HTTPError, PrefectException, OSError, ValueError, RuntimeError)
"""What reading can raise if a server does not answer, or answers with garbage."""


class RequestInbox:
    """The requests to one flow run. A request is taken by deleting it, which succeeds only once, so none is read twice.

    A sender that gives up also deletes its request: if that succeeds, the request was not read.
    """

    def __init__(
        self,
        opened: OpenRun,
        flow_run: UUID,
        client: PrefectClient,
        connection: PrefectConnection,
        emitter: EventEmitter,
    ) -> None:
        self._run = opened.run
        self._merge_queue = opened.merge_queue
        self._emitter = emitter
        self._connection = connection
        self._flow_run = flow_run
        self._client = client
        self._logger = get_run_logger()
        self._jobs: set[asyncio.Task[Any]] = set()
        self._explained = ""

    async def work(self) -> None:
        """Poll until cancelled; if the server does not answer, try again later."""
        polls = 0
        while True:
            try:
                async with asyncio.timeout(MAX_POLL_SECONDS):
                    await self._poll(with_state=polls % POLLS_PER_STATE == 0)
            except _OUTAGE as error:
                self._connection.note_no_answer(error)
                self._logger.debug("the inbox could not be read: %s", error)
            polls += 1
            await asyncio.sleep(POLL_SECONDS)

    async def _poll(self, *, with_state: bool) -> None:
        if with_state:
            await self._read_state()
        await self._take_requests()

    async def close(self) -> None:
        """Wait for the answers to requests already taken, for a limited time."""
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=CLOSE_SECONDS)
        for job in self._jobs:
            job.cancel()

    async def _take_requests(self) -> None:
        for found in await self._client.filter_flow_run_input(self._flow_run, REQUEST_PREFIX, MAX_REQUESTS, set()):
            if not await self._take(found):
                continue
            try:
                request = read_request(found.value)
            except ValueError as error:
                self._logger.warning("Ignored an input of this flow run that is not a valid request: %s", error)
                continue
            if request.until and time.time() > request.until:
                self._logger.warning("Ignored a request from a terminal that came too late: %s", request.kind)
                continue
            # In its own task, so that a slow agent does not delay other requests.
            job = asyncio.create_task(self._handle(found.key, request), name=found.key)
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)

    async def _take(self, found: FlowRunInput) -> bool:
        try:
            await self._client.delete_flow_run_input(self._flow_run, found.key)
        except (httpx.HTTPStatusError, ObjectNotFound) as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code != HTTPStatus.NOT_FOUND:
                raise
            return False  # The sender withdrew it.
        return True

    async def _handle(self, key: str, request: UserRequest) -> None:
        answers = self._find_renamed(request) or await self._perform(request)
        for answer in answers:
            self._logger.info("Request from a terminal: %s. %s", request.kind, answer.sentence)
        await self._answer(key, answers)

    async def _perform(self, request: UserRequest) -> Sequence[Answer]:
        requests = self._run.requests
        for node in request.nodes or ("",):
            self._run.nodes.journal.note(JournalEvent.REQUESTED, node, what=str(request.kind), text=request.text)
        match request.kind:
            case RequestKind.MESSAGE:
                return [await _await_result(node, requests.tell(node, request.text)) for node in request.nodes]
            case RequestKind.ABORT:
                return [await self._abort(node, request.policy) for node in request.nodes]
            case RequestKind.RESOLVE:
                return [await self._resolve(request.nodes[0], PersonsWord(request.text, request.role, request.model))]
            case RequestKind.SPAWN:
                task_id = request.nodes[0] if request.nodes else ""
                return [await self._spawn(SpawnOrder(request.text, task_id, request.parent, request.session))]
            case RequestKind.LAND:
                return [await _await_result(request.nodes[0], request_landing(self._run, request.nodes[0]))]
            case RequestKind.TAKE:
                return [await _await_result(request.nodes[0], self._take_task(request))]
            case RequestKind.STOP:
                stop(self._run, "because another terminal requested it")
                return [Answer("", True, "the run is stopping; its sessions are ended and their work is kept")]
            case RequestKind.DRAIN:
                return [drain(self._run)]

    def _find_renamed(self, request: UserRequest) -> Sequence[Answer]:
        """Refuse a request for nodes that have another id by now, and that nobody works on under the former one."""
        if request.kind not in (RequestKind.RESOLVE, RequestKind.LAND, RequestKind.TAKE):
            return ()  # The answers to the others name each node by itself.
        requests, tasks, nodes = self._run.requests, self._run.nodes.graph.tasks, self._run.board.view.nodes
        gone = (one for one in request.nodes if one not in requests.open_nodes())
        renamed = {one: find_new_name(one, nodes, tasks) for one in gone}
        return [Answer(one, False, describe_new_name(one, name)) for one, name in renamed.items() if name]

    async def _abort(self, node: str, policy: Policy) -> Answer:
        tasks = self._run.nodes.graph.tasks
        spawned = list_spawned(tasks, node) if policy == "abort-dependents" else ()
        below = [one for one in spawned if not tasks[one].is_completed]
        return await _await_result(node, self._run.requests.abort(node, below))

    async def _spawn(self, order: SpawnOrder) -> Answer:
        """Spawn a task; that may take longer than the sender waits."""
        job = asyncio.create_task(self._commit_spawned(order), name=f"spawn {order.task_id}")
        later = "it is committed once the merge that is being verified has ended"
        return await self._await_commit(job, Answer(order.task_id, True, later))

    async def _commit_spawned(self, order: SpawnOrder) -> Answer:
        try:
            spawned = await spawn_in_run(self._run, self._merge_queue, order)
        except CoordinatorError as error:
            answer = Answer(order.task_id, False, str(error))
        else:
            answer = Answer(spawned.task_id, True, describe_spawned(spawned))
        who = f"{order.spawner} spawns" if order.spawner else "Spawning"
        self._run.board.say(f"{who} {answer.node or 'a task'}: {answer.sentence}.")
        return answer

    async def _await_commit(self, job: asyncio.Task[Answer], later: Answer) -> Answer:
        """Return what `job` answers, or `later` if that takes longer than the sender waits."""
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        await asyncio.wait([job], timeout=RESOLVE_SECONDS)
        return job.result() if job.done() else later

    async def _take_task(self, request: UserRequest) -> RequestResult:
        return await take_in_run(self._run, request.nodes[0], Taker(request.text, request.is_forced))

    async def _resolve(self, name: str, word: PersonsWord) -> Answer:
        """Resolve what blocks the node `name`; that may take longer than the sender waits."""
        try:
            found = await find_resolution_in_run(self._run, name, word)
        except CoordinatorError as error:
            return Answer(name, False, str(error))
        job = asyncio.create_task(self._commit_resolution(name, word), name=f"resolve {name}")
        later = f"{describe(found)} once the merge that is being verified has ended"
        return await self._await_commit(job, Answer(name, True, later))

    async def _commit_resolution(self, name: str, word: PersonsWord) -> Answer:
        try:
            resolution = await resolve_in_run(self._run, self._merge_queue, name, word)
        except CoordinatorError as error:
            answer = Answer(name, False, str(error))
        except asyncio.CancelledError:
            self._run.board.say(f"{name} was not resolved before the run ended; resolve it again.")
            raise
        else:
            for node, payload in describe_resolved(resolution, word.text).items():
                self._emitter.announce(VERB, payload, node, name_place(is_in_run=True))
            answer = Answer(name, True, describe(resolution))
        self._run.board.say(f"Resolving {name}: {answer.sentence}.")
        return answer

    async def _answer(self, key: str, answers: Sequence[Answer]) -> None:
        for _ in range(TRIES):
            try:
                await self._client.create_flow_run_input(self._flow_run, answers_key(key), write_answers(answers))
            except _OUTAGE:
                await asyncio.sleep(POLL_SECONDS)
            else:
                return

    async def _read_state(self) -> None:
        """Check for a cancellation or a pause: without a worker, the flow itself has to notice it."""
        state = (await self._client.read_flow_run(self._flow_run)).state
        self._connection.note_answer()
        if state and state.type in STOPS:
            stop(self._run, "because it was cancelled in Prefect")
        elif state and state.type is StateType.PAUSED:
            stop_paused(self._run)
        elif state and state.type is not StateType.RUNNING:
            self._explain_state(state)

    def _explain_state(self, state: State[Any]) -> None:
        """Explain how to stop the run, as someone set its state manually."""
        name = state.name or state.type.value
        if not self._run.stopping.is_requested and name != self._explained:
            self._explained = name
            self._run.board.say(
                f"This run was set to {name} in Prefect, which does not stop it. To stop it, cancel it there or run "
                "`coordinator abort --all`."
            )


def stop(run: Run, why: str) -> None:
    """Stop `run` unless it is stopping already, and say why."""
    if not run.stopping.is_requested:
        run.board.say(f"Stopping the run {why}; its sessions are ended and their work is kept.")
        run.stopping.request()


def drain(run: Run) -> Answer:
    """Let `run` start no more nodes, and say so once."""
    if run.stopping.is_requested:
        return Answer("", False, "the run is already stopping, and ends its sessions")
    if not run.stopping.is_draining:
        run.board.say("Another terminal requested that no more nodes are started; those in progress continue.")
        run.stopping.drain()
    return Answer("", True, "the run starts no more nodes; it ends when those in progress have ended")


def stop_paused(run: Run) -> None:
    """Stop `run` because someone paused it: a process that waits for a person would hold the repository's lock."""
    stop(run, "because it was paused in Prefect")


async def _await_result(node: str, handling: Awaitable[RequestResult]) -> Answer:
    try:
        async with asyncio.timeout(HANDLE_SECONDS):
            result = await handling
    except TimeoutError:
        return Answer(node, False, f"{node} is busy and did not respond within {HANDLE_SECONDS:.0f} seconds; try again")
    except Exception as error:  # Report a backend's failure to the sender instead of ending the run.
        return Answer(node, False, f"{node} could not be reached: {error}")
    return Answer(node, result.is_done, result.sentence)


@asynccontextmanager
async def receiving_requests(
    opened: OpenRun, flow_run: UUID | None, connection: PrefectConnection, emitter: EventEmitter
) -> AsyncGenerator[None]:
    """Receive requests to the run while the block runs; without a flow run there are none."""
    if flow_run is None:
        yield
        return
    async with get_client() as client:
        inbox = RequestInbox(opened, flow_run, client, connection, emitter)
        job = asyncio.create_task(inbox.work(), name="inbox")
        try:
            yield
        finally:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
            await inbox.close()
