"""Hands out session slots: nodes that continue come before nodes that start, then by priority."""

import asyncio
import heapq

from tasks_lib.settings.spoke_schema import Place


class SessionSlots:
    """Allows `size` sessions at a time; waiters are served by `rank`, lowest first, then in order of arrival.

    `is_served` is False while no session could run in its place, although a node may wait for that with a slot.
    """

    def __init__(self, size: int) -> None:
        self.size: int = size
        self.is_served: bool = True
        self._held: int = 0
        self._arrivals: int = 0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    @property
    def free(self) -> int:
        """How many sessions may start now; 0 while any node is waiting."""
        return 0 if self._waiting else self.size - self._held

    def lease(self, rank: float, place: Place = Place.LOCAL) -> "SlotLease":
        """Return a slot that is already acquired; call it only while `free` is above 0."""
        self._held += 1
        return SlotLease(self, rank, place, is_taken=True)

    def resize(self, size: int) -> None:
        """Change how many sessions are allowed; those that run already are not affected."""
        self.size = size
        while self._waiting and self._held < self.size:
            self._held += 1
            self.release()

    async def acquire(self, rank: float) -> None:
        """Acquire a slot, waiting for one if necessary; a cancelled waiter does not take one."""
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
        """Release a slot; it is handed directly to the first waiter."""
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._held -= 1


class SlotLease:
    """A slot in `place` that a node acquires and releases as needed; repeating either does nothing."""

    def __init__(self, slots: SessionSlots, rank: float, place: Place = Place.LOCAL, *, is_taken: bool = False) -> None:
        self.place: Place = place
        self._slots = slots
        self._rank = rank
        self._is_taken = is_taken

    def move(self, slots: SessionSlots, place: Place) -> None:
        """Release the slot, and belong to `slots` of `place` from now on."""
        self.release()
        self._slots, self.place = slots, place

    async def acquire(self) -> None:
        if not self._is_taken:
            await self._slots.acquire(self._rank)
            self._is_taken = True

    def release(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._slots.release()
