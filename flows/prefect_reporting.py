"""Reports a run to Prefect. Prefect's records are never relied on, and a failure is reported once per run.

Every call of a run to Prefect's API goes through `PrefectConnection`, which limits its time and never raises. Git
decides what landed, the exit code and the report, with or without Prefect.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

import httpx
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound, PrefectException, PrefectSignal

from tasks_lib.reporting.run_report import INCOMPLETE
from tasks_lib.runtime.status_board import Board
from tasks_lib.text import fold

T = TypeVar("T")
FAULTS = (httpx.HTTPError, PrefectException, PrefectSignal, OSError, ValueError, RuntimeError)
"""What Prefect's client and engine raise if a server rejects a request, has lost the run, or does not answer."""
CALL_SECONDS = 20.0
"""How long one call may take. Prefect's client retries for over a minute if a server is gone."""
LOST_SECONDS = 30.0
"""How long a server may be unreachable before calls to it stop; they resume when it answers again."""
STOPS = (StateType.CANCELLING, StateType.CANCELLED)
"""The states that a run gets when someone cancels it in Prefect's UI."""


def explain(error: BaseException) -> str:
    """Explain in a few words why Prefect has no record of something."""
    match _find_status(error):
        case HTTPStatus.NOT_FOUND:
            return "it no longer has this run (deleted, or another database?)"
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN as status:
            return f"its server rejects this run's login ({int(status)})"
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
    """Report, once per run, that Prefect's record is incomplete, and why."""
    if not any(message.startswith(INCOMPLETE) for message in board.view.messages):
        board.say(f"{INCOMPLETE}: {explain(error)}. Git has the complete record, and decides the exit code.")


class PrefectConnection:
    """The connection of one run to Prefect. `lost` is set while Prefect cannot be reached."""

    def __init__(self) -> None:
        self._board: Board | None = None
        self._fault: BaseException | None = None
        self._answered = time.monotonic()
        self.lost: asyncio.Event = asyncio.Event()

    @property
    def is_lost(self) -> bool:
        return self.lost.is_set()

    def show_on(self, board: Board) -> None:
        """Report past and future failures on `board`."""
        self._board = board
        if self._fault:
            say_incomplete(board, self._fault)

    async def call(self, request: Callable[[], Awaitable[T]], seconds: float = CALL_SECONDS) -> T | None:
        """Return the result of `request`, or None if it fails; raises only a cancellation."""
        if self.is_lost:
            return None
        try:
            async with asyncio.timeout(seconds):
                return await request()
        except FAULTS as error:
            self.note_failure(error)
            return None

    def note_failure(self, error: BaseException) -> None:
        """Note that Prefect's record is incomplete because of `error`."""
        self._fault = error
        if self._board:
            say_incomplete(self._board, error)

    def note_answer(self) -> None:
        """Note that Prefect answered and has the run."""
        self._answered = time.monotonic()
        self.lost.clear()

    def note_no_answer(self, error: BaseException) -> None:
        """Note that Prefect did not answer, or does not have the run; after a while it counts as lost."""
        status = _find_status(error)
        is_certain = status in (HTTPStatus.NOT_FOUND, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        if is_certain or time.monotonic() - self._answered > LOST_SECONDS:
            self.lost.set()
            self.note_failure(error)
