"""Hides HTTP: calls to one opencode server and its event stream, with errors as sentences."""

import json
from collections.abc import AsyncGenerator
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
_TEXT = 300


class Unreachable(AgentError):  # noqa: N818 - A state of the server, which some act on.
    """The server does not answer, or closed the connection."""


class Missing(AgentError):  # noqa: N818 - As above.
    """The requested object does not exist."""


class ServerHttp:
    """HTTP to one server. Raises Unreachable, Missing, and AgentError for everything else that the server refuses.

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

    async def call(
        self, method: str, path: str, directory: Path, body: Json | None = None, *, seconds: float = CALL_SECONDS
    ) -> Any:
        """Return what the server answers to a request, None for an empty answer."""
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

    async def read_object(
        self, method: str, path: str, directory: Path, body: Json | None = None, *, seconds: float = CALL_SECONDS
    ) -> Json:
        """As `call`, for a path that answers with an object; raises AgentError for anything else."""
        found = await self.call(method, path, directory, body, seconds=seconds)
        if not isinstance(found, dict):
            raise AgentError(f"opencode's server at {self.address.url} answered {path} with unexpected data")
        return cast("Json", found)

    async def read_list(self, path: str, directory: Path) -> list[Json]:
        """As `call`, for a path that answers a GET with a list; raises AgentError for anything else."""
        found = await self.call("GET", path, directory)
        if not isinstance(found, list):
            raise AgentError(f"opencode's server at {self.address.url} answered {path} with unexpected data")
        return cast("list[Json]", found)

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
