"""How a run is stopped: what asks for it, what a stop has to wait for, and work that ends with it."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from tasks_lib.runtime.user_requests import UserRequests

T = TypeVar("T")


class Interrupted(Exception):  # noqa: N818 - Nothing went wrong: a person stopped the run, or the node.
    """The run, or the node, is being stopped; whoever sees this keeps the work and ends."""


class Stopping:
    """Whether one run is to end, and why; `waits` counts what a stop would have to wait for now.

    `on_request` is called whenever a stop is asked for, `say` when the run stops by itself.
    """

    def __init__(self, requests: UserRequests, on_request: Callable[[], None], say: Callable[[str], None]) -> None:
        self.halt_reason: str = ""
        self.waits: dict[str, int] = {}
        self._requests = requests
        self._on_request = on_request
        self._say = say
        self._event = asyncio.Event()

    @property
    def is_requested(self) -> bool:
        return self._event.is_set()

    def request(self) -> None:
        """Stop the sessions and keep the work; nothing new begins."""
        self._event.set()
        self._on_request()

    def halt(self, reason: str) -> None:
        """Stop because no session can do better as things are; said once, however many sessions find it out."""
        if not self.halt_reason:
            self.halt_reason = reason
            self._say(f"The run is stopping: {reason}")
        self.request()

    @contextmanager
    def waiting_for(self, what: str) -> Generator[None]:
        """Note that a stop has to wait for `what`, such as "the push to origin", while the block runs."""
        self.waits[what] = self.waits.get(what, 0) + 1
        try:
            yield
        finally:
            self.waits[what] -= 1
            if not self.waits[what]:
                del self.waits[what]

    async def unless_stopped(self, work: Awaitable[T], node_id: str) -> T:
        """The result of `work` for a node, or Interrupted, with `work` cancelled and waited for, once the run is
        stopping or a person stops the node.

        `work` that comes to its end in spite of that, as a landing does whose head is moving, counts as any other.
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
