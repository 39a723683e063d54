"""Takes what a person says to a running graph, and brings it to the node that it is meant for."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from tasks_lib.suggestions import suggest


@dataclass(frozen=True, slots=True)
class RequestResult:
    """What became of it; where `is_done` is False, `sentence` says why, and what to do."""

    is_done: bool
    sentence: str


class MessageRecipient(Protocol):
    """A node that is open: one that is worked, waits in the queue, or waits for its next attempt."""

    async def receive_message(self, text: str) -> RequestResult:
        """Bring `text` to the agent, at once or with its next prompt."""
        ...


class UserRequests:
    """Whoever is open in a run, and what persons want of them. Everything happens on the run's event loop."""

    def __init__(self) -> None:
        self._parties: dict[str, MessageRecipient] = {}
        self._aborts: dict[str, asyncio.Event] = {}
        self._overtaken: set[str] = set()
        self.has_changed: asyncio.Event = asyncio.Event()

    def open_nodes(self) -> tuple[str, ...]:
        """The ids of the nodes that are open."""
        return tuple(self._parties)

    def enter(self, node_id: str, party: MessageRecipient) -> None:
        """`party` is who hears what is said to `node_id` from now on."""
        self._parties[node_id] = party

    def leave(self, node_id: str) -> None:
        """Node `node_id` has ended; what was wanted of it is forgotten."""
        self._parties.pop(node_id, None)
        self._aborts.pop(node_id, None)
        self._overtaken.discard(node_id)

    def abort_event(self, node_id: str) -> asyncio.Event:
        """Set once `node_id` is to end: a person wants it, or somebody else has completed it."""
        return self._aborts.setdefault(node_id, asyncio.Event())

    def is_abort_requested(self, node_id: str) -> bool:
        """Whether a person wants `node_id` to end."""
        is_to_end = node_id in self._aborts and self._aborts[node_id].is_set()
        return is_to_end and node_id not in self._overtaken

    def end_completed_elsewhere(self, node_id: str) -> None:
        """End the work on `node_id`, which somebody else has completed."""
        if not self.abort_event(node_id).is_set():
            self._overtaken.add(node_id)
            self.abort_event(node_id).set()

    async def tell(self, node_id: str, text: str) -> RequestResult:
        """Bring `text` to the agent that works `node_id`."""
        party = self._parties.get(node_id)
        if party is None:
            return self._explain_absence(node_id)
        if not text.strip():
            return RequestResult(False, f"nothing was sent to {node_id}: the message is empty")
        return await party.receive_message(text.strip())

    async def abort(self, node_id: str) -> RequestResult:
        """End the work on `node_id`, keeping what is there."""
        if node_id not in self._parties:
            return self._explain_absence(node_id)
        self.abort_event(node_id).set()
        self.has_changed.set()
        return RequestResult(True, f"{node_id} is being stopped; its work is kept")

    def _explain_absence(self, node_id: str) -> RequestResult:
        known = ", ".join(sorted(self._parties)) or "none"
        hint = suggest(node_id, self._parties)
        return RequestResult(False, f'"{node_id}" is not running{hint or f"; running nodes: {known}"}')
