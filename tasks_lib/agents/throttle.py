"""Slows the sessions of a run down together when their provider says that it gets too many requests."""

import asyncio
import time

RATE_SECONDS = 60.0
"""How long all sessions wait after a provider refused one of them and did not say until when."""
SPACING_SECONDS = 0.25
"""Waiting prompts are not sent all at once, or the provider would refuse them again."""


class Throttle:
    """Shared by all sessions with one provider: while it is active, no prompt is sent."""

    def __init__(self) -> None:
        self.answered_at: float = 0.0
        """When the provider last answered any of them, in seconds since the epoch; 0 if it has not."""
        self._until: float = 0.0
        self._turn: asyncio.Lock = asyncio.Lock()

    @property
    def until(self) -> float:
        """Until when prompts wait, in seconds since the epoch; in the past if they do not."""
        return self._until

    def slow_down(self, until: float) -> None:
        """Delay prompts until then; the caller has to refuse a wait that is too long for a run."""
        self._until = max(self._until, until)

    async def wait(self) -> None:
        """Return once prompts may be sent; callers that had to wait return one after another."""
        if self._until <= time.time() and not self._turn.locked():
            return
        async with self._turn:
            await self._outlast()
            await asyncio.sleep(SPACING_SECONDS)

    async def _outlast(self) -> None:
        left = self._until - time.time()
        if left > 0:
            await asyncio.sleep(left)
            await self._outlast()  # The wait may have been extended meanwhile.


class Throttles:
    """The throttle of each provider; a model is `provider/model`, "" for one that is not known."""

    def __init__(self) -> None:
        self._by_provider: dict[str, Throttle] = {}

    def find(self, model: str) -> Throttle:
        """The throttle of the provider of `model`."""
        return self._by_provider.setdefault(model.partition("/")[0], Throttle())
