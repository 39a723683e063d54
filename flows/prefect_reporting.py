"""Tells Prefect what happens in a run. Prefect's records are never relied on: what it does not take is said once.

Every call that a run makes to Prefect's API goes through `Telling`, which bounds it and never raises. Git decides what
landed, the exit code and the report, with or without Prefect.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound, PrefectException, PrefectSignal
from prefect.states import Running

from tasks_lib.reporting.run_report import INCOMPLETE
from tasks_lib.runtime.status_board import Board
from tasks_lib.text import fold

T = TypeVar("T")
FAULTS = (httpx.HTTPError, PrefectException, PrefectSignal, OSError, ValueError, RuntimeError)
"""What Prefect's client and engine raise when a server refuses, has lost, or does not answer what it is asked."""
TELL_SECONDS = 20.0
"""How long one call may take. Prefect's client repeats a call for a minute and more if a server has gone."""
LOST_SECONDS = 30.0
"""How long a server may be away before nothing more is told; it is looked for all the time, and told again."""
STOPS = (StateType.CANCELLING, StateType.CANCELLED)
"""The states by which a person stops a run in Prefect's UI."""


def explain(error: BaseException) -> str:
    """Why Prefect does not have what it was told, in a few words."""
    match _find_status(error):
        case HTTPStatus.NOT_FOUND:
            return "it no longer has this run (deleted, or another database?)"
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN as status:
            return f"its server refuses the login of this run ({int(status)})"
        case int() as status:
            return f"its server answered {int(status)}"
        case None if isinstance(error, httpx.TransportError | TimeoutError | OSError):
            return "its server does not answer"
        case None:
            return fold(str(error))[:200] or type(error).__name__


def _find_status(error: BaseException) -> int | None:
    if isinstance(error, ObjectNotFound):
        return HTTPStatus.NOT_FOUND
    return error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None


def say_incomplete(board: Board, error: BaseException) -> None:
    """Say, once in a run, that Prefect does not have all of it, and why."""
    if not any(message.startswith(INCOMPLETE) for message in board.view.messages):
        board.say(f"{INCOMPLETE}: {explain(error)}. Git has all of it, and decides the exit code.")


class Telling:
    """What one run tells Prefect. `lost` is set while Prefect cannot be told anything."""

    def __init__(self) -> None:
        self._board: Board | None = None
        self._fault: BaseException | None = None
        self._heard = time.monotonic()
        self.lost: asyncio.Event = asyncio.Event()

    @property
    def is_lost(self) -> bool:
        return self.lost.is_set()

    def show_on(self, board: Board) -> None:
        """Say on `board` what Prefect does not take, from now on and until now."""
        self._board = board
        if self._fault:
            say_incomplete(board, self._fault)

    async def tell(self, call: Callable[[], Awaitable[T]], seconds: float = TELL_SECONDS) -> T | None:
        """What `call` answers, or None if Prefect does not take it; raises nothing but a cancellation."""
        if self.is_lost:
            return None
        try:
            return await asyncio.wait_for(call(), seconds)
        except FAULTS as error:
            self.miss(error)
            return None

    def miss(self, error: BaseException) -> None:
        """Something is missing in Prefect because of `error`."""
        self._fault = error
        if self._board:
            say_incomplete(self._board, error)

    def hear(self) -> None:
        """Prefect answered, and has the run."""
        self._heard = time.monotonic()
        self.lost.clear()

    def note_no_answer(self, error: BaseException) -> None:
        """Prefect did not answer a look at the run, or does not have it; after a while, that counts as lost."""
        status = _find_status(error)
        is_certain = status in (HTTPStatus.NOT_FOUND, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        if is_certain or time.monotonic() - self._heard > LOST_SECONDS:
            self.lost.set()
            self.miss(error)


async def open_for_ending(flow_run: UUID, final: State[object]) -> None:
    """See that Prefect will accept `final`, and still has the run: a state that somebody set by hand is put back.

    Cancelling is how a person stops a run, and stays if the run ended by that. Raises one of FAULTS.
    """
    async with get_client() as client:
        state = (await client.read_flow_run(flow_run)).state
        if state is None or state.type is StateType.RUNNING or (state.type in STOPS and final.is_cancelled()):
            return
        await client.set_flow_run_state(flow_run, Running(), force=True)
