"""Runs work for nodes in the background, such as deleting a branch that has landed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class BackgroundJobs:
    """The background jobs of one run; failures are passed to `say`, not raised."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._jobs: set[asyncio.Task[None]] = set()
        self._last: dict[str, asyncio.Task[None]] = {}

    def start(self, node_id: str, work: Coroutine[Any, Any, None], what: str) -> None:
        """Start `work` for a node; `what` completes the message "Could not …" if it fails."""
        job = asyncio.create_task(work, name=what)
        self._jobs.add(job)
        self._last[node_id] = job
        job.add_done_callback(self._end)

    async def wait_for_node(self, node_id: str) -> None:
        """Wait for the job that was started last for a node."""
        if job := self._last.pop(node_id, None):
            await asyncio.wait([job])

    async def wait(self) -> None:
        """Wait for all jobs, including those started meanwhile."""
        while self._jobs:
            await asyncio.wait(self._jobs)

    def _end(self, job: "asyncio.Task[None]") -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()):
            self._say(f"Could not {job.get_name()}: {error}. Nothing is lost; the next run tries again.")
