"""Hides opencode's HTTP interface: the calls that sessions need, with errors as sentences."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import httpx

from tasks_lib.agents.json_values import Json, as_object
from tasks_lib.agents.opencode.servers.server_interface import Address
from tasks_lib.errors import AgentError
from tasks_lib.process.http_clients import make_async_client
from tasks_lib.text import cut, fold

HEARTBEAT_SECONDS = 30.0
"""An event stream sends something every 10 seconds; after this long a silence it is broken."""
CONNECT_SECONDS = 10.0
CALL_SECONDS = 60.0
OPEN_SECONDS = 180.0
"""A server's first request for a worktree reads the worktree, and other sessions may be reading theirs."""
CLOSE_SECONDS = 15.0
_TEXT = 300


class Unreachable(AgentError):  # noqa: N818 - A state of the server, which some act on.
    """The server does not answer, or closed the connection."""


class Missing(AgentError):  # noqa: N818 - As above.
    """The requested object does not exist."""


class Client:
    """Calls of one server. Raises Unreachable, Missing, and AgentError for everything else that the server refuses.

    `directory` is always the worktree, which selects opencode's instance. `transport` is for tests.
    """

    def __init__(self, address: Address, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.address: Address = address
        self._http: httpx.AsyncClient = make_async_client(
            address.url,
            httpx.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS, pool=None),
            auth=(address.username, address.password) if address.password else None,
            transport=transport,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def create(self, directory: Path, body: Json) -> str:
        """Create a session and return its id. This succeeds even for an agent that does not exist."""
        found = await self._object("POST", "/session", directory, body, seconds=OPEN_SECONDS)
        return str(found["id"])

    async def prompt(self, session: str, directory: Path, body: Json) -> None:
        """Send a prompt to a session; success does not mean that opencode can act on it."""
        await self._call("POST", f"/session/{session}/prompt_async", directory, body)

    async def abort(self, session: str, directory: Path) -> None:
        await self._call("POST", f"/session/{session}/abort", directory)

    async def read_session(self, session: str, directory: Path) -> Json:
        """Return the session; raises Missing if the server has none with that id."""
        return await self._object("GET", f"/session/{session}", directory, seconds=OPEN_SECONDS)

    async def read_statuses(self, directory: Path) -> Mapping[str, Json]:
        """Return the sessions of the directory that are not idle, by id."""
        return cast("Mapping[str, Json]", await self._object("GET", "/session/status", directory))

    async def read_messages(self, session: str, directory: Path) -> list[Json]:
        """Return all messages of the session, oldest first, each with `info` and `parts`."""
        return await self._list(f"/session/{session}/message", directory)

    async def read_children(self, session: str, directory: Path) -> list[Json]:
        return await self._list(f"/session/{session}/children", directory)

    async def read_todos(self, session: str, directory: Path) -> list[Json]:
        return await self._list(f"/session/{session}/todo", directory)

    async def read_permissions(self, directory: Path) -> list[Json]:
        """Return the pending permission requests."""
        return await self._list("/permission", directory)

    async def read_questions(self, directory: Path) -> list[Json]:
        return await self._list("/question", directory)

    async def reject_permission(self, request: str, directory: Path, message: str) -> None:
        """Reject with a message, so that the agent continues; without one its turn would stop."""
        body = {"reply": "reject", "message": message}
        await self._call("POST", f"/permission/{request}/reply", directory, body)

    async def answer_question(self, request: str, directory: Path, answers: Sequence[Sequence[str]]) -> None:
        """Answer with a text, so that the agent continues; a rejection would stop its turn."""
        await self._call("POST", f"/question/{request}/reply", directory, {"answers": answers})

    async def dispose(self, directory: Path) -> None:
        """Make the server unload the directory, with everything that runs in it."""
        await self._call("POST", "/instance/dispose", directory, seconds=CLOSE_SECONDS)

    async def stream(self) -> AsyncGenerator[Json, None]:
        """Yield the payloads of events of all directories as they arrive; raises Unreachable if the stream breaks."""
        timeout = httpx.Timeout(HEARTBEAT_SECONDS, connect=CONNECT_SECONDS, pool=None)
        try:
            async with self._http.stream("GET", "/global/event", timeout=timeout) as answer:
                if answer.is_error:
                    await answer.aread()
                    self._check(answer, "/global/event")
                async for line in answer.aiter_lines():
                    if payload := read_line(line):
                        yield payload
        except httpx.HTTPError as error:
            raise self._describe(error) from error
        raise Unreachable(f"opencode's server at {self.address.url} closed its event stream")

    async def _object(
        self, method: str, path: str, directory: Path, body: Json | None = None, *, seconds: float = CALL_SECONDS
    ) -> Json:
        found = await self._call(method, path, directory, body, seconds=seconds)
        if not isinstance(found, dict):
            raise AgentError(f"opencode's server at {self.address.url} answered {path} with unexpected data")
        return cast("Json", found)

    async def _list(self, path: str, directory: Path) -> list[Json]:
        found = await self._call("GET", path, directory)
        if not isinstance(found, list):
            raise AgentError(f"opencode's server at {self.address.url} answered {path} with unexpected data")
        return cast("list[Json]", found)

    async def _call(
        self, method: str, path: str, directory: Path, body: Json | None = None, *, seconds: float = CALL_SECONDS
    ) -> Any:
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS, pool=None)
        try:
            answer = await self._http.request(
                method, path, params={"directory": str(directory)}, json=body, timeout=timeout
            )
        except httpx.HTTPError as error:
            raise self._describe(error) from error
        self._check(answer, path)
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            raise AgentError(f"{self.address.url} did not answer {path} with JSON: is it opencode's server?") from error

    def _describe(self, error: httpx.HTTPError) -> AgentError:
        url = self.address.url
        if isinstance(error, httpx.TimeoutException):
            return Unreachable(f"opencode's server at {url} did not answer in time")
        return Unreachable(f"opencode's server at {url} cannot be reached: {error or type(error).__name__}")

    def _check(self, answer: httpx.Response, path: str) -> None:
        where = f"opencode's server at {self.address.url}"
        match answer.status_code:
            case 401 | 403:
                raise AgentError(
                    f"{where} refuses the password: set OPENCODE_SERVER_PASSWORD to the one it was started with"
                )
            case 404:
                raise Missing(f"{where} has nothing at {path}: {cut(fold(answer.text), _TEXT)}")
            case status if status >= httpx.codes.BAD_REQUEST:
                raise AgentError(f"{where} answered {path} with {status}: {cut(fold(answer.text), _TEXT)}")
            case _:
                return


def read_line(line: str) -> Json | None:
    """Return the payload in a line of the event stream; None for an empty line, and for a mere repetition."""
    if not line.startswith("data:") or '"payload":{"type":"sync"' in line:
        return None
    try:
        found: Any = json.loads(line[5:])
    except ValueError:
        return None
    return as_object(as_object(found).get("payload")) or None
