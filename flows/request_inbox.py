"""Hears what is said to a running graph through Prefect, and answers it: letters as run inputs, and a cancellation."""

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

from flows.prefect_reporting import STOPS, Telling
from flows.request_messages import REQUEST_PREFIX, Answer, UserRequest, Wish, read_request, receipt_key, write_receipt
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.user_requests import RequestResult

LOOK_SECONDS = 1.0
"""Prefect tells nobody of an input, so the run looks: 7 ms of a core each time, and half of this until it hears."""
LOOKS_A_STATE = 2
"""Its own state it reads with every other look, so within 2 seconds."""
HEAR_SECONDS = 8.0
"""How long one node may take to hear, so that the terminal gets its answer before it gives up."""
LOOK_BOUND_SECONDS = 15.0
"""How long one look may take; Prefect's client would ask a server that has gone for a minute."""
CLOSE_SECONDS = 5.0
MOST_LETTERS = 20
"""At a look; the rest is there at the next."""
TRIES = 3
_OUTAGE = (httpx.HTTPError, PrefectException, OSError, ValueError, RuntimeError)
"""What reading from a server can raise that does not answer, or answers nonsense."""


class RequestInbox:
    """The letters of one flow run. A letter is taken by deleting it, which succeeds once, so none is heard twice.

    A terminal that gives up deletes its letter in the same way: what it could take back was not heard.
    """

    def __init__(self, run: Run, flow_run: UUID, client: PrefectClient, telling: Telling) -> None:
        self._run = run
        self._telling = telling
        self._flow_run = flow_run
        self._client = client
        self._logger = get_run_logger()
        self._jobs: set[asyncio.Task[None]] = set()
        self._explained = ""

    async def work(self) -> None:
        """Look again and again; a server that does not answer is asked again later, and nothing else suffers."""
        looks = 0
        while True:
            try:
                await asyncio.wait_for(self._look(with_state=looks % LOOKS_A_STATE == 0), LOOK_BOUND_SECONDS)
            except _OUTAGE as error:
                self._telling.note_no_answer(error)
                self._logger.debug("the inbox could not be read: %s", error)
            looks += 1
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, *, with_state: bool) -> None:
        if with_state:
            await self._read_state()
        await self._take_letters()

    async def close(self) -> None:
        """Let what was taken be answered, within a bound."""
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=CLOSE_SECONDS)
        for job in self._jobs:
            job.cancel()

    async def _take_letters(self) -> None:
        for found in await self._client.filter_flow_run_input(self._flow_run, REQUEST_PREFIX, MOST_LETTERS, set()):
            if not await self._take(found):
                continue
            try:
                letter = read_request(found.value)
            except ValueError as error:
                self._logger.warning("An input of this flow run is no letter and is ignored: %s", error)
                continue
            if letter.until and time.time() > letter.until:
                self._logger.warning("What a terminal said came too late and is ignored: %s", letter.wish)
                continue
            # In a task of its own, so that an agent that is slow to hear keeps nobody waiting.
            job = asyncio.create_task(self._handle(found.key, letter), name=found.key)
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)

    async def _take(self, found: FlowRunInput) -> bool:
        try:
            await self._client.delete_flow_run_input(self._flow_run, found.key)
        except (httpx.HTTPStatusError, ObjectNotFound) as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code != HTTPStatus.NOT_FOUND:
                raise
            return False  # Its sender has taken it back.
        return True

    async def _handle(self, key: str, letter: UserRequest) -> None:
        answers = await self._perform(letter)
        for answer in answers:
            self._logger.info("Asked from a terminal: %s. %s", letter.wish, answer.sentence)
        await self._answer(key, answers)

    async def _perform(self, letter: UserRequest) -> Sequence[Answer]:
        desk = self._run.requests
        match letter.wish:
            case Wish.MESSAGE:
                return [await _hear(node, desk.tell(node, letter.text)) for node in letter.nodes]
            case Wish.ABORT:
                return [await _hear(node, desk.abort(node)) for node in letter.nodes]
            case Wish.STOP:
                self._stop("as asked from another terminal")
                return [Answer("", True, "the run stops: sessions are ended, and their work is kept")]

    async def _answer(self, key: str, answers: Sequence[Answer]) -> None:
        for _ in range(TRIES):
            try:
                await self._client.create_flow_run_input(self._flow_run, receipt_key(key), write_receipt(answers))
            except _OUTAGE:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return

    async def _read_state(self) -> None:
        """Prefect leaves it to a flow that no worker runs to notice that it was cancelled."""
        state = (await self._client.read_flow_run(self._flow_run)).state
        self._telling.hear()
        if state and state.type in STOPS:
            self._stop("because it was cancelled in Prefect")
        elif state and state.type is not StateType.RUNNING:
            self._explain_state(state)

    def _explain_state(self, state: State[Any]) -> None:
        """Somebody set the state of the run by hand; a person who wants it to stop is told how."""
        name = state.name or state.type.value
        if not self._run.stopping.is_requested and name != self._explained:
            self._explained = name
            self._run.board.say(
                f"This run was set to {name} in Prefect. That does not stop it: cancel it there, or call "
                "`coordinator abort --all`."
            )

    def _stop(self, why: str) -> None:
        if not self._run.stopping.is_requested:
            self._run.board.say(f"The run stops {why}: sessions are ended, and their work is kept.")
            self._run.stopping.request()


async def _hear(node: str, hearing: Awaitable[RequestResult]) -> Answer:
    try:
        receipt = await asyncio.wait_for(hearing, HEAR_SECONDS)
    except TimeoutError:
        return Answer(node, False, f"{node} did not hear it within {HEAR_SECONDS:.0f} seconds; it is busy, try again")
    except Exception as error:  # What a backend could not do is the sender's to know, and ends nothing.
        return Answer(node, False, f"{node} could not be reached: {error}")
    return Answer(node, receipt.is_done, receipt.sentence)


@asynccontextmanager
async def hearing(run: Run, flow_run: UUID | None, telling: Telling) -> AsyncGenerator[None]:
    """Hear what is said to `run` for as long as the block runs; without a flow run there is nothing to hear."""
    if flow_run is None:
        yield
        return
    async with get_client() as client:
        inbox = RequestInbox(run, flow_run, client, telling)
        job = asyncio.create_task(inbox.work(), name="inbox")
        try:
            yield
        finally:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
            await inbox.close()
