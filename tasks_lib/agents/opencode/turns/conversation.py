"""Hides where a conversation with opencode lives: its seat, its server's address, its id, and how it is spoken to."""

import asyncio
import shlex
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tasks_lib.agents.backend import SessionSpec
from tasks_lib.agents.json_values import Json, as_object
from tasks_lib.agents.opencode.api.client import Client, Missing
from tasks_lib.agents.opencode.api.event_stream import Shared, Subscription, Wire
from tasks_lib.agents.opencode.servers.server_interface import Host, Seat
from tasks_lib.agents.opencode.turns.session_snapshot import (
    Before,
    Tree,
    note_before,
    read_poll,
    read_requests,
    read_snapshot,
)
from tasks_lib.errors import AgentError
from tasks_lib.session import events as ev
from tasks_lib.session.events import Event, Polled, Request, Snapshot

READ_ONLY = [{"permission": "edit", "pattern": "*", "action": "deny"}]
"""Subagents of the session inherit this."""
_GONE_SECONDS = 2.0
_DEPTH = 8
"""How far subagents of subagents are followed."""


class Conversation:
    """A session of opencode's on a server that `host` keeps; it outlives a restart of that server.

    `agent` is opencode's role, `model` is `provider/model` or "", `system` is added to its instructions.
    """

    def __init__(self, spec: SessionSpec, host: Host, shared: Shared, *, agent: str, model: str, system: str) -> None:
        number, _, self.id = spec.conversation.partition(":")
        self._wanted: int | None = int(number) if number.isdecimal() else None
        self.model: str = model
        self._spec: SessionSpec = spec
        self._host: Host = host
        self._shared: Shared = shared
        self._agent: str = agent
        self._system: str = system
        self._directory: Path = spec.cwd
        self._seat: Seat | None = None
        self._wire: Wire | None = None
        self._subscription: Subscription | None = None
        self._death: asyncio.Task[None] | None = None
        self._booted: int = -1
        self._is_known: bool = False
        self._is_new: bool = False

    @property
    def seat(self) -> Seat:
        assert self._seat is not None, "a conversation sits down before it is spoken in"
        return self._seat

    @property
    def client(self) -> Client:
        assert self._wire is not None, "a conversation reaches its server before it is spoken in"
        return self._wire.client

    @property
    def generation(self) -> int:
        return self.client.address.generation

    @property
    def needs_boot(self) -> bool:
        """Whether this start of the server has yet to read the worktree, which few may let it do at once."""
        return self._booted != self.generation

    async def reach(self) -> None:
        """Take a seat, and see that the server answers, started anew if it has died; raises AgentError."""
        if self._seat is None:
            self._seat = await self._host.sit(self._wanted)
        address = await self._seat.address()
        if self._wire is not None and self._wire.client.address == address:
            return
        await self._let_go()
        self._wire = self._shared.wires.hold(address)
        self._death = asyncio.create_task(self._tell_of_death(address.generation))

    async def open(self) -> bool:
        """See that there is a session, and make one if not; True if an earlier conversation is lost."""
        if self._is_known:
            return False
        was_lost = bool(self.id) and not await self._is_there()
        if was_lost or not self.id:
            body = {"title": self._spec.title or self._spec.task_id, "agent": self._agent}
            rules = {"permission": READ_ONLY} if self._spec.is_read_only else {}
            self.id = await self.client.create(self._directory, {**body, **rules})
            self._is_new = True
        self._is_known = True
        if self._spec.on_conversation:
            self._spec.on_conversation(f"{self.seat.number}:{self.id}")
        return was_lost

    async def _is_there(self) -> bool:
        """Whether the earlier session exists, for this very worktree: its tools would work in another one."""
        try:
            found = await self.client.read_session(self.id, self._directory)
        except Missing:
            return False
        return _is_same(str(found.get("directory")), self._directory)

    def listen(self) -> Subscription:
        """Hear of the session, and of the death of its server; the same subscription while the server lives."""
        if self._subscription is None:
            assert self._wire is not None
            self._subscription = self._wire.subscribe(self.id, self.model)
        return self._subscription

    def ignore(self) -> None:
        """Hear nothing more: between turns nobody would take what is heard."""
        if self._wire is not None and self._subscription is not None:
            self._wire.leave(self._subscription)
            self._subscription = None

    async def _tell_of_death(self, generation: int) -> None:
        await self.seat.wait_until_dead(generation)
        if self._subscription is not None:
            self._subscription.push(ev.ServerDied(time.time(), self.id))

    async def outlast_death(self) -> None:
        """Give the host a moment to notice that a server which cannot be reached has died."""
        if self._death is not None:
            await asyncio.wait({self._death}, timeout=_GONE_SECONDS)

    async def say(self, text: str) -> None:
        """Send a prompt, or steer a session that works; that it was taken says nothing more."""
        provider, _, model = self.model.partition("/")
        body: dict[str, Any] = {"agent": self._agent, "parts": [{"type": "text", "text": text}]}
        body |= {"model": {"providerID": provider, "modelID": model}} if model else {}
        body |= {"system": self._system} if self._system else {}
        await self.client.prompt(self.id, self._directory, body)
        self._booted = self.generation

    async def note_before(self) -> Before:
        """What the conversation holds before a turn."""
        if self._is_new:
            self._is_new = False
            return Before()
        return note_before(await self._read_tree(Before()))

    async def read(self, before: Before) -> tuple[Snapshot, tuple[Event, ...], float]:
        """The turn as it is, the events that are told by it, and when that was."""
        at = time.time()
        tree = await self._read_tree(before)
        if self._wire is not None and self._subscription is not None:
            for name in tree.messages:
                self._wire.follow(self._subscription, name)
        snapshot, events = read_snapshot(tree, before, at, self.model)
        return snapshot, events, at

    async def poll(self) -> Polled:
        """Who works, and what is asked."""
        at, client, directory = time.time(), self.client, self._directory
        statuses, permissions, questions = await asyncio.gather(
            client.read_statuses(directory), client.read_permissions(directory), client.read_questions(directory)
        )
        return read_poll(statuses, read_requests(permissions, questions, None), self.id, at)

    async def _read_tree(self, before: Before) -> Tree:
        client, directory = self.client, self._directory
        # The statuses come first: what is idle then has all its messages, or gets the last of them in a moment.
        statuses = await client.read_statuses(directory)
        messages, todos, permissions, questions, children = await asyncio.gather(
            client.read_messages(self.id, directory),
            client.read_todos(self.id, directory),
            client.read_permissions(directory),
            client.read_questions(directory),
            self._read_children(self.id, _DEPTH),
        )
        fresh = [name for name, updated in children.items() if before.updated.get(name) != updated]
        told = await asyncio.gather(*(client.read_messages(name, directory) for name in fresh))
        by_name = {self.id: messages, **dict(zip(fresh, told, strict=True))}
        return Tree(self.id, by_name, statuses, permissions, questions, todos, children)

    async def _read_children(self, name: str, depth: int) -> dict[str, int]:
        found = await self.client.read_children(name, self._directory)
        children = {str(one["id"]): _read_updated(one) for one in found}
        if depth:
            for below in await asyncio.gather(*(self._read_children(child, depth - 1) for child in list(children))):
                children |= below
        return children

    async def answer(self, request: Request, text: str) -> None:
        """Answer so that the agent goes on; one that was answered meanwhile needs no more."""
        with suppress(Missing):
            if request.kind == "permission":
                await self.client.reject_permission(request.id, self._directory, text)
            else:
                await self.client.answer_question(request.id, self._directory, [[text]] * request.parts)

    async def abort(self, names: Iterable[str]) -> None:
        """Break off what the sessions `names` do."""
        await asyncio.gather(*(self._abort(name) for name in names))

    async def _abort(self, name: str) -> None:
        with suppress(Missing):
            await self.client.abort(name, self._directory)

    async def busy(self) -> Mapping[str, Json]:
        """The sessions of the worktree that are not idle."""
        return await self.client.read_statuses(self._directory)

    async def forget(self) -> None:
        """Let the server forget the worktree, if it lives and is ours."""
        if self._wire is not None and self._death is not None and not self._death.done() and self.client.address.group:
            with suppress(AgentError):
                await self.client.dispose(self._directory)

    def attach_command(self) -> str:
        """The line that opens the conversation in opencode's own interface; "" while there is none."""
        if self._wire is None or not self.id:
            return ""
        words = ("attach", self.client.address.url, "--session", self.id, "--dir", str(self._directory))
        return f"{self._host.attach_prefix} {shlex.join(words)}"

    async def leave(self) -> None:
        """Give back the seat and the wire; leaving twice does nothing more."""
        await self._let_go()
        if self._seat is not None:
            self._seat.leave()
            self._seat = None

    async def _let_go(self) -> None:
        if self._death is not None:
            self._death.cancel()
            self._death = None
        self.ignore()
        wire, self._wire = self._wire, None
        if wire is not None:
            await self._shared.wires.release(wire)


def _is_same(path: str, directory: Path) -> bool:
    return Path(path).resolve() == directory.resolve()


def _read_updated(session: Json) -> int:
    return int(as_object(session.get("time")).get("updated") or 0)
