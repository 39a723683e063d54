"""Hands out session slots: whoever goes on comes before whoever begins, then by priority."""

import asyncio
import heapq


class SessionSlots:
    """At most `size` sessions at a time; waiters are served by `rank`, lowest first, then in order of arrival."""

    def __init__(self, size: int) -> None:
        self.size: int = size
        self._held: int = 0
        self._arrivals: int = 0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    @property
    def free(self) -> int:
        """How many may begin now; 0 while somebody waits."""
        return 0 if self._waiting else self.size - self._held

    def lease(self, rank: float) -> "SlotLease":
        """A slot that is acquired already; call only while `free` is above 0."""
        self._held += 1
        return SlotLease(self, rank, is_taken=True)

    async def acquire(self, rank: float) -> None:
        """Take a slot, waiting for one if need be; a cancelled waiter takes none."""
        if self.free > 0:
            self._held += 1
            return
        self._arrivals += 1
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, self._arrivals, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back; it goes straight to the first who waits."""
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._held -= 1


class SlotLease:
    """A slot that one node acquires and releases as it needs one; both are harmless to repeat."""

    def __init__(self, slots: SessionSlots, rank: float, *, is_taken: bool = False) -> None:
        self._slots = slots
        self._rank = rank
        self._is_taken = is_taken

    async def acquire(self) -> None:
        if not self._is_taken:
            await self._slots.acquire(self._rank)
            self._is_taken = True

    def release(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._slots.release()
