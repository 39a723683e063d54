"""Hides a server's event stream: one for all sessions, reopened whenever it breaks."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from tasks_lib.agents.json_values import Json, as_object
from tasks_lib.agents.opencode.api.client import Client
from tasks_lib.agents.opencode.api.event_translation import translate
from tasks_lib.agents.opencode.servers.server_interface import Address
from tasks_lib.agents.throttle import Throttles
from tasks_lib.errors import AgentError
from tasks_lib.session import events as ev
from tasks_lib.session.events import Event

OPENED = "session.created"
FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 5.0


class Subscription:
    """The events of one session and its child sessions. `model` names its model where an error does not."""

    def __init__(self, root: str, model: str) -> None:
        self.root: str = root
        self.model: str = model
        self._events: deque[Event] = deque()
        self._wake: asyncio.Event = asyncio.Event()

    def push(self, event: Event) -> None:
        """Add an event; consecutive events that only repeat that a text grows, or that events were lost, are merged."""
        last = self._events[-1] if self._events else None
        if not (last and _says_the_same(last, event)):
            self._events.append(event)
        self._wake.set()

    async def wait(self, seconds: float) -> None:
        """Return as soon as there is an event, or after `seconds`."""
        if not self._events and seconds > 0:
            self._wake.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                return

    def take(self) -> list[Event]:
        """Return all events since the last call, oldest first."""
        taken = list(self._events)
        self._events.clear()
        return taken


def _says_the_same(last: Event, event: Event) -> bool:
    match event:
        case ev.Gap():
            return isinstance(last, ev.Gap)
        case ev.TextGrew(is_thinking=None):
            return isinstance(last, ev.TextGrew) and last.session == event.session
        case _:
            return False


class SharedConnection:
    """A server's client, and its event stream while there are subscribers."""

    def __init__(self, address: Address) -> None:
        self.client: Client = Client(address)
        self.holders: int = 0
        self._routes: dict[str, Subscription] = {}
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, root: str, model: str) -> Subscription:
        """Receive events of the session `root` from now on; the first subscriber opens the stream."""
        subscription = self._routes[root] = Subscription(root, model)
        if self._task is None:
            self._task = asyncio.create_task(self._listen())
        return subscription

    def follow(self, subscription: Subscription, child: str) -> None:
        """Send events of a child of its session to the subscriber, too."""
        self._routes.setdefault(child, subscription)

    def leave(self, subscription: Subscription) -> None:
        """Stop receiving events."""
        self._routes = {name: one for name, one in self._routes.items() if one is not subscription}

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        await self.client.close()

    async def _listen(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                async for payload in self.client.stream():
                    if payload.get("type") == "server.connected":
                        # Events from before this are not repeated, so every subscriber has to poll.
                        pause = FIRST_PAUSE_SECONDS
                        self._tell_all()
                    else:
                        self._dispatch(payload)
            except AgentError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LAST_PAUSE_SECONDS)
                self._tell_all()  # While there is no stream, every subscriber has to poll now and then.

    def _tell_all(self) -> None:
        at = time.time()
        for subscription in set(self._routes.values()):
            subscription.push(ev.Gap(at, subscription.root))

    def _dispatch(self, payload: Json) -> None:
        """Pass an event to its subscribers: by its session, or by the parent of a newly opened session."""
        properties = as_object(payload.get("properties"))
        name = as_object(properties.get("info")).get("parentID") if payload.get("type") == OPENED else None
        subscription = self._routes.get(str(name or properties.get("sessionID")))
        if subscription is None:
            return
        for event in translate(payload, time.time(), subscription.model):
            if isinstance(event, ev.ChildOpened):
                self.follow(subscription, event.child)
            subscription.push(event)


class SharedConnections:
    """The connections of a run, one per server; a connection that is no longer used is closed."""

    def __init__(self, make: Callable[[Address], SharedConnection] = SharedConnection) -> None:
        self._make: Callable[[Address], SharedConnection] = make
        self._connections: dict[Address, SharedConnection] = {}

    def hold(self, address: Address) -> SharedConnection:
        """Return the connection to this start of the server; call `release` when done."""
        connection = self._connections.get(address) or self._make(address)
        self._connections[address] = connection
        connection.holders += 1
        return connection

    async def release(self, connection: SharedConnection) -> None:
        connection.holders -= 1
        if connection.holders == 0:
            self._connections = {address: one for address, one in self._connections.items() if one is not connection}
            await connection.close()


class Shared:
    """What all sessions of a run share; nothing of it is left once the last of them is closed."""

    def __init__(self, throttles: Throttles | None = None, connections: SharedConnections | None = None) -> None:
        self.throttles: Throttles = throttles or Throttles()
        self.connections: SharedConnections = connections or SharedConnections()
