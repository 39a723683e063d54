"""Hides how coordinator talks to an opencode session: its id, its prompts, its events, and its current state."""

import asyncio
import shlex
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks_lib.agents.backend import SessionSpec
from tasks_lib.agents.json_values import Json, as_object
from tasks_lib.agents.opencode.api.event_stream import Shared, Subscription
from tasks_lib.agents.opencode.api.server_http import Missing
from tasks_lib.agents.opencode.servers.server_interface import ServerSource
from tasks_lib.agents.opencode.turns.server_connection import ServerConnection
from tasks_lib.agents.opencode.turns.session_snapshot import (
    Before,
    Tree,
    note_before,
    read_poll,
    read_requests,
    read_snapshot,
)
from tasks_lib.session import events as ev
from tasks_lib.session.events import Event, Polled, Request, Snapshot

READ_ONLY = [{"permission": "edit", "pattern": "*", "action": "deny"}]
"""Subagents of the session inherit this."""
_DEPTH = 8
"""How deep subagents of subagents are followed."""


class Conversation:
    """An opencode session on a server of `servers`; it survives a restart of that server.

    `agent` is opencode's role, `model` is `provider/model` or "", `system` is added to its instructions.
    """

    def __init__(
        self, spec: SessionSpec, servers: ServerSource, shared: Shared, *, agent: str, model: str, system: str
    ) -> None:
        number, _, self.id = spec.conversation.partition(":")
        wanted = int(number) if number.isdecimal() else None
        self.server: ServerConnection = ServerConnection(servers, shared, wanted, self._note_death, self.ignore)
        self.model: str = model
        self._spec: SessionSpec = spec
        self._agent: str = agent
        self._system: str = system
        self._directory: Path = spec.cwd
        self._subscription: Subscription | None = None
        self._booted: int = -1
        self._is_known: bool = False
        self._is_new: bool = False

    @property
    def needs_boot(self) -> bool:
        """Whether this start of the server has yet to read the worktree; only a few sessions may cause that at once."""
        return self._booted != self.server.generation

    async def open(self) -> bool:
        """Make sure that there is a session, and create one if not; True if an earlier conversation is lost."""
        if self._is_known:
            return False
        was_lost = bool(self.id) and not await self._is_there()
        if was_lost or not self.id:
            body = {"title": self._spec.title or self._spec.task_id, "agent": self._agent}
            rules = {"permission": READ_ONLY} if self._spec.is_read_only else {}
            self.id = await self.server.client.create(self._directory, {**body, **rules})
            self._is_new = True
        self._is_known = True
        if self._spec.on_conversation:
            self._spec.on_conversation(f"{self.server.lease.number}:{self.id}")
        return was_lost

    async def _is_there(self) -> bool:
        """Return whether the earlier session exists for this worktree: otherwise its tools would run in another one."""
        try:
            found = await self.server.client.read_session(self.id, self._directory)
        except Missing:
            return False
        return _is_same(str(found.get("directory")), self._directory)

    def listen(self) -> Subscription:
        """Subscribe to the session, and to the death of its server; the same subscription while the server lives."""
        if self._subscription is None:
            assert self.server.connection is not None
            self._subscription = self.server.connection.subscribe(self.id, self.model)
        return self._subscription

    def ignore(self) -> None:
        """Unsubscribe: between turns nothing would take the events."""
        if self.server.connection is not None and self._subscription is not None:
            self.server.connection.leave(self._subscription)
            self._subscription = None

    def _note_death(self) -> None:
        if self._subscription is not None:
            self._subscription.push(ev.ServerDied(time.time(), self.id))

    async def say(self, text: str) -> None:
        """Send a prompt, or steer a running session; success only means that opencode accepted it."""
        provider, _, model = self.model.partition("/")
        body: dict[str, Any] = {"agent": self._agent, "parts": [{"type": "text", "text": text}]}
        body |= {"model": {"providerID": provider, "modelID": model}} if model else {}
        body |= {"system": self._system} if self._system else {}
        await self.server.client.prompt(self.id, self._directory, body)
        self._booted = self.server.generation

    async def note_before(self) -> Before:
        """Return what the conversation contains before a turn."""
        if self._is_new:
            self._is_new = False
            return Before()
        return note_before(await self._read_tree(Before()))

    async def read(self, before: Before) -> tuple[Snapshot, tuple[Event, ...], float]:
        """Return the current state of the turn, the events in its messages, and the time of reading."""
        at = time.time()
        tree = await self._read_tree(before)
        if self.server.connection is not None and self._subscription is not None:
            for name in tree.messages:
                self.server.connection.follow(self._subscription, name)
        snapshot, events = read_snapshot(tree, before, at, self.model)
        return snapshot, events, at

    async def poll(self) -> Polled:
        """Return which sessions are busy, and the pending requests."""
        at, client, directory = time.time(), self.server.client, self._directory
        statuses, permissions, questions = await asyncio.gather(
            client.read_statuses(directory),
            client.requests.read_permissions(directory),
            client.requests.read_questions(directory),
        )
        return read_poll(statuses, read_requests(permissions, questions, None), self.id, at)

    async def _read_tree(self, before: Before) -> Tree:
        client, directory = self.server.client, self._directory
        # Statuses first: a session that is idle in them has all its messages, or gets the last of them in a moment.
        statuses = await client.read_statuses(directory)
        messages, todos, permissions, questions, children = await asyncio.gather(
            client.read_messages(self.id, directory),
            client.read_todos(self.id, directory),
            client.requests.read_permissions(directory),
            client.requests.read_questions(directory),
            self._read_children(self.id, _DEPTH),
        )
        fresh = [name for name, updated in children.items() if before.updated.get(name) != updated]
        told = await asyncio.gather(*(client.read_messages(name, directory) for name in fresh))
        by_name = {self.id: messages, **dict(zip(fresh, told, strict=True))}
        return Tree(self.id, by_name, statuses, permissions, questions, todos, children)

    async def _read_children(self, name: str, depth: int) -> dict[str, int]:
        found = await self.server.client.read_children(name, self._directory)
        children = {str(one["id"]): _read_updated(one) for one in found}
        if depth:
            for below in await asyncio.gather(*(self._read_children(child, depth - 1) for child in list(children))):
                children |= below
        return children

    async def answer(self, request: Request, text: str) -> None:
        """Answer so that the agent continues; a request that was answered meanwhile is ignored."""
        with suppress(Missing):
            if request.kind == "permission":
                await self.server.client.requests.reject_permission(request.id, self._directory, text)
            else:
                await self.server.client.requests.answer_question(request.id, self._directory, [[text]] * request.parts)

    async def abort(self, names: Iterable[str]) -> None:
        """Abort what the sessions `names` are doing."""
        await asyncio.gather(*(self._abort(name) for name in names))

    async def _abort(self, name: str) -> None:
        with suppress(Missing):
            await self.server.client.abort(name, self._directory)

    async def busy(self) -> Mapping[str, Json]:
        """Return the sessions of the worktree that are not idle."""
        return await self.server.client.read_statuses(self._directory)

    def attach_command(self) -> str:
        """Return the line that opens the conversation in opencode's own interface; "" if there is none yet."""
        if self.server.connection is None or not self.id:
            return ""
        words = ("attach", self.server.client.address.url, "--session", self.id, "--dir", str(self._directory))
        return f"{self.server.attach_prefix} {shlex.join(words)}"


def _is_same(path: str, directory: Path) -> bool:
    return Path(path).resolve() == directory.resolve()


def _read_updated(session: Json) -> int:
    return int(as_object(session.get("time")).get("updated") or 0)
