"""Moves the head of one run, one caller at a time, lowest rank first, and announces every move."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from tasks_lib.git.compose.commit_composer import Candidate, Composer
from tasks_lib.landing.queue_turns import QueueTurns
from tasks_lib.runtime.run_context import Run

FIRST = float("-inf")
"""The rank of callers that do not need to verify: they come before every merge."""
LAST = float("inf")
BEHIND_LANDINGS = float(1 << 40)
"""Added to a node's rank for work that is only verified and does not land yet: whatever may land comes first."""


class HeadMoves:
    """What the merge queue and the base follower share: composing commits, taking turns, and moving the head.

    `changed` is set when work that was held may be able to land. `taking_back` is locked while merges are taken back,
    until the branches of their nodes are restored. `landed` counts the nodes that have landed in this run, which are at
    most `max_landings`, 0 for any number.
    """

    def __init__(self, run: Run, on_moved: Callable[[], None]) -> None:
        """`on_moved` is called on the event loop after each move of the head."""
        self._git = run.git
        self._on_moved = on_moved
        self._turns = QueueTurns()
        self.composer: Composer = Composer(
            run.git.repository.git, run.git.objects, run.git.reader, run.agents.identity, run.git.isolation
        )
        self.changed: asyncio.Event = asyncio.Event()
        self.taking_back: asyncio.Lock = asyncio.Lock()
        self.landed: int = 0
        self.max_landings: int = 0

    @property
    def is_full(self) -> bool:
        """Whether as many nodes have landed as may in this run."""
        return 0 < self.max_landings <= self.landed

    @asynccontextmanager
    async def turn(self, rank: float, may_wait: Callable[[], bool] = lambda: False) -> AsyncGenerator[None]:
        """Prevent other callers from moving the head while the block runs; they wait by `rank`, lowest first.

        Of equal rank, those for which `may_wait()` holds, asked when it is somebody's turn, come after the others.
        """
        await self._turns.acquire(rank, may_wait)
        try:
            yield
        finally:
            self._turns.release()

    async def advance(self, candidate: Candidate) -> bool:
        """Move the head to `candidate`; return False if the head was not where `candidate` expects it.

        A move that has begun is completed even if the caller is cancelled; if it succeeds, the cancellation is ignored.
        """
        moving = asyncio.ensure_future(self._git.call(self._git.head.advance, candidate.head, candidate.commit))
        try:
            is_moved = await asyncio.shield(moving)
        except asyncio.CancelledError:
            if not await moving:
                raise
            is_moved = True
        if is_moved:
            self.announce()
        return is_moved

    def announce(self) -> None:
        """Announce that the head has moved; call after moving it without `advance`."""
        self._on_moved()

    def note_landed(self) -> None:
        """Count a landed node: work that was held may land now, and the base may be followed once more."""
        self.landed += 1
        self.changed.set()
