"""Hides how the sessions of a run slow down together when their provider says that they ask too often."""

import asyncio
import time

MOST_SECONDS = 300.0
"""Nobody is kept waiting longer for one answer of a provider, whatever it asks for."""
SPACING_SECONDS = 0.25
"""Those who waited do not go on all at once, or the provider would refuse them again."""


class Throttle:
    """Shared by all sessions of a run: while it holds, no prompt is sent."""

    def __init__(self) -> None:
        self._until: float = 0.0
        self._turn: asyncio.Lock = asyncio.Lock()

    @property
    def until(self) -> float:
        """Until when prompts wait, in seconds since the epoch; a moment that has passed if they do not."""
        return self._until

    def slow_down(self, until: float) -> None:
        """Hold prompts back until then, or for `MOST_SECONDS` at most."""
        self._until = max(self._until, min(until, time.time() + MOST_SECONDS))

    async def wait(self) -> None:
        """Return once prompts may be sent; one caller after another if they had to wait."""
        if self._until <= time.time() and not self._turn.locked():
            return
        async with self._turn:
            await self._outlast()
            await asyncio.sleep(SPACING_SECONDS)

    async def _outlast(self) -> None:
        left = self._until - time.time()
        if left > 0:
            await asyncio.sleep(left)
            await self._outlast()  # It may have been made longer meanwhile.
