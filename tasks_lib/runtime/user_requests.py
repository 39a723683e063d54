"""Passes the user's requests to the running nodes that they are for."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tasks_lib.naming import show_some


@dataclass(frozen=True, slots=True)
class RequestResult:
    """The result of a request; if `is_done` is False, `sentence` says why, and what to do."""

    is_done: bool
    sentence: str


class MessageRecipient(Protocol):
    """An open node: one that is running, is waiting in the queue, or is waiting for its next attempt."""

    async def receive_message(self, text: str) -> RequestResult:
        """Pass `text` to the agent, immediately or with its next prompt."""
        ...


class UserRequests:
    """The open nodes of a run and the user's requests to them. Call it only on the run's event loop."""

    def __init__(self) -> None:
        self._parties: dict[str, MessageRecipient] = {}
        self._aborts: dict[str, asyncio.Event] = {}
        self._overtaken: set[str] = set()
        self.explain_absence: Callable[[str], str] | None = None
        """Says why a node is not open; set by what plans the run."""
        self.has_changed: asyncio.Event = asyncio.Event()

    def open_nodes(self) -> tuple[str, ...]:
        """Return the ids of the open nodes."""
        return tuple(self._parties)

    def enter(self, node_id: str, party: MessageRecipient) -> None:
        """Pass messages for `node_id` to `party` from now on."""
        self._parties[node_id] = party

    def leave(self, node_id: str) -> None:
        """Forget a node that has ended, with the requests for it."""
        self._parties.pop(node_id, None)
        self._aborts.pop(node_id, None)
        self._overtaken.discard(node_id)

    def abort_event(self, node_id: str) -> asyncio.Event:
        """Return an event that is set when `node_id` has to end: the user asked, or it was completed elsewhere."""
        return self._aborts.setdefault(node_id, asyncio.Event())

    def is_abort_requested(self, node_id: str) -> bool:
        """Return whether the user asked `node_id` to end."""
        is_to_end = node_id in self._aborts and self._aborts[node_id].is_set()
        return is_to_end and node_id not in self._overtaken

    def end_completed_elsewhere(self, node_id: str) -> None:
        """End the work on `node_id`, which has been completed elsewhere."""
        if not self.abort_event(node_id).is_set():
            self._overtaken.add(node_id)
            self.abort_event(node_id).set()

    async def tell(self, node_id: str, text: str) -> RequestResult:
        """Pass `text` to the agent of `node_id`."""
        party = self._parties.get(node_id)
        if party is None:
            return self._explain_absence(node_id)
        if not text.strip():
            return RequestResult(False, f"nothing was sent to {node_id}: the message is empty")
        return await party.receive_message(text.strip())

    async def abort(self, node_id: str, spawned: Sequence[str] = ()) -> RequestResult:
        """End the work on `node_id` and on the open tasks that it has `spawned`, and keep what they have so far."""
        running = [one for one in spawned if one in self._parties]
        if node_id not in self._parties and not running:
            return self._explain_absence(node_id)
        if node_id in self._parties:
            self.abort_event(node_id).set()
        for one in spawned:  # Also those that are about to begin, and are not open yet.
            self.abort_event(one).set()
        self.has_changed.set()
        below = f", and so {'is' if len(running) == 1 else 'are'} {show_some(running)}" if running else ""
        return RequestResult(True, f"{node_id} is being stopped{below}; the work is kept")

    def _explain_absence(self, node_id: str) -> RequestResult:
        said = self.explain_absence(node_id) if self.explain_absence else f"{node_id} is not running"
        return RequestResult(False, said)
