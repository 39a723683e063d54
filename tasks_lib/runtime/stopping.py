"""Stops a run: records requests to stop and what a stop has to wait for, and cancels work."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from tasks_lib.runtime.user_requests import UserRequests

T = TypeVar("T")


class Interrupted(Exception):  # noqa: N818 - Nothing went wrong: the user stopped the run or the node.
    """The run or the node is being stopped; the code that handles this keeps the work and ends."""


class Stopping:
    """Whether a run has to stop, and why; `waits` counts what a stop would currently have to wait for.

    `on_request` is called whenever a stop is requested, `say` when the run stops by itself.
    """

    def __init__(self, requests: UserRequests, on_request: Callable[[], None], say: Callable[[str], None]) -> None:
        self.halt_reason: str = ""
        self.is_draining: bool = False
        self.waits: dict[str, int] = {}
        self._requests = requests
        self._on_request = on_request
        self._say = say
        self._event = asyncio.Event()

    @property
    def is_requested(self) -> bool:
        return self._event.is_set()

    @property
    def is_ending(self) -> bool:
        """Whether no more nodes may start, whatever happens to those in progress."""
        return self.is_requested or self.is_draining

    def request(self) -> None:
        """Stop the sessions, keep their work, and start nothing new."""
        self._event.set()
        self._on_request()

    def drain(self) -> None:
        """Start no more nodes; those in progress continue to their end."""
        self.is_draining = True
        self._on_request()

    def halt(self, reason: str) -> None:
        """Stop because no session can succeed at the moment; only the first reason is kept and reported."""
        if not self.halt_reason:
            self.halt_reason = reason
            self._say(f"The run is stopping: {reason}")
        self.request()

    @contextmanager
    def waiting_for(self, what: str) -> Generator[None]:
        """Record that a stop has to wait for `what`, e.g. "the push to origin", while the block runs."""
        self.waits[what] = self.waits.get(what, 0) + 1
        try:
            yield
        finally:
            self.waits[what] -= 1
            if not self.waits[what]:
                del self.waits[what]

    async def unless_stopped(self, work: Awaitable[T], node_id: str) -> T:
        """Return the result of `work` for a node; if the run or the node is stopped, cancel and await `work`.

        Raises Interrupted if `work` was cancelled. If it completes in spite of that, as a landing does while it is
        moving the head, its result is returned as usual.
        """
        job = asyncio.ensure_future(work)
        stops = [asyncio.ensure_future(one.wait()) for one in (self._event, self._requests.abort_event(node_id))]
        try:
            await asyncio.wait([job, *stops], return_when=asyncio.FIRST_COMPLETED)
            if not job.done():
                job.cancel()
                await asyncio.wait([job])
            if job.cancelled():
                raise Interrupted
            return job.result()
        finally:
            for stop in stops:
                stop.cancel()
            if not job.done():
                job.cancel()
                await asyncio.wait([job])
