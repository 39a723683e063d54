"""Gives callers their turn at the head: by rank, then those without a coming conflict first, then by arrival."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_OVERTAKEN = 3
"""How many others of the same rank may have their turn first, although they came later."""


@dataclass(slots=True)
class _Waiter:
    rank: float
    arrival: int
    may_wait: Callable[[], bool]
    turn: "asyncio.Future[None]"
    overtaken: int = 0


@dataclass(slots=True)
class QueueTurns:
    """Whose turn it is; the turn is free at first."""

    _is_taken: bool = False
    _arrivals: int = 0
    _waiting: list[_Waiter] = field(default_factory=list[_Waiter])

    async def acquire(self, rank: float, may_wait: Callable[[], bool]) -> None:
        """Return when it is the caller's turn; a cancelled waiter does not take one.

        Among waiters of the lowest rank, one for which `may_wait()` holds is overtaken by those for which it does not,
        at most MOST_OVERTAKEN times.
        """
        if not self._is_taken:
            self._is_taken = True
            return
        self._arrivals += 1
        waiter = _Waiter(rank, self._arrivals, may_wait, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """End the turn; it is handed directly to the next waiter."""
        self._waiting = [waiter for waiter in self._waiting if not waiter.turn.done()]
        if not self._waiting:
            self._is_taken = False
            return
        lowest = min(waiter.rank for waiter in self._waiting)
        equal = [waiter for waiter in self._waiting if waiter.rank == lowest]
        chosen = next((one for one in equal if one.overtaken >= MOST_OVERTAKEN or not one.may_wait()), equal[0])
        for waiter in equal[: equal.index(chosen)]:
            waiter.overtaken += 1
        self._waiting.remove(chosen)
        chosen.turn.set_result(None)
