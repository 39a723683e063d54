"""The calls of opencode's HTTP interface that sessions need."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import cast

import httpx

from tasks_lib.agents.json_values import Json
from tasks_lib.agents.opencode.api.server_http import ServerHttp
from tasks_lib.agents.opencode.servers.server_interface import Address

OPEN_SECONDS = 180.0
"""A server's first request for a worktree reads the worktree, and other sessions may be reading theirs."""
CLOSE_SECONDS = 15.0


class PendingRequests:
    """What agents ask for and wait for an answer to: permissions and questions. Errors as those of Client."""

    def __init__(self, http: ServerHttp) -> None:
        self._http: ServerHttp = http

    async def read_permissions(self, directory: Path) -> list[Json]:
        """Return the pending permission requests."""
        return await self._http.read_list("/permission", directory)

    async def read_questions(self, directory: Path) -> list[Json]:
        return await self._http.read_list("/question", directory)

    async def reject_permission(self, request: str, directory: Path, message: str) -> None:
        """Reject with a message, so that the agent continues; without one its turn would stop."""
        body = {"reply": "reject", "message": message}
        await self._http.call("POST", f"/permission/{request}/reply", directory, body)

    async def answer_question(self, request: str, directory: Path, answers: Sequence[Sequence[str]]) -> None:
        """Answer with a text, so that the agent continues; a rejection would stop its turn."""
        await self._http.call("POST", f"/question/{request}/reply", directory, {"answers": answers})


class Client:
    """Calls of one server. Raises Unreachable, Missing, and AgentError for everything else that the server refuses.

    `directory` is always the worktree, which selects opencode's instance. `transport` is for tests.
    """

    def __init__(self, address: Address, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.address: Address = address
        self._http: ServerHttp = ServerHttp(address, transport)
        self.requests: PendingRequests = PendingRequests(self._http)

    async def close(self) -> None:
        await self._http.close()

    def stream(self) -> AsyncGenerator[Json, None]:
        """Yield the payloads of events of all directories as they arrive; raises Unreachable if the stream breaks."""
        return self._http.stream()

    async def create(self, directory: Path, body: Json) -> str:
        """Create a session and return its id. This succeeds even for an agent that does not exist."""
        found = await self._http.read_object("POST", "/session", directory, body, seconds=OPEN_SECONDS)
        return str(found["id"])

    async def prompt(self, session: str, directory: Path, body: Json) -> None:
        """Send a prompt to a session; success does not mean that opencode can act on it."""
        await self._http.call("POST", f"/session/{session}/prompt_async", directory, body)

    async def abort(self, session: str, directory: Path) -> None:
        await self._http.call("POST", f"/session/{session}/abort", directory)

    async def read_session(self, session: str, directory: Path) -> Json:
        """Return the session; raises Missing if the server has none with that id."""
        return await self._http.read_object("GET", f"/session/{session}", directory, seconds=OPEN_SECONDS)

    async def read_statuses(self, directory: Path) -> Mapping[str, Json]:
        """Return the sessions of the directory that are not idle, by id."""
        return cast("Mapping[str, Json]", await self._http.read_object("GET", "/session/status", directory))

    async def read_messages(self, session: str, directory: Path) -> list[Json]:
        """Return all messages of the session, oldest first, each with `info` and `parts`."""
        return await self._http.read_list(f"/session/{session}/message", directory)

    async def read_children(self, session: str, directory: Path) -> list[Json]:
        return await self._http.read_list(f"/session/{session}/children", directory)

    async def read_todos(self, session: str, directory: Path) -> list[Json]:
        return await self._http.read_list(f"/session/{session}/todo", directory)

    async def dispose(self, directory: Path) -> None:
        """Make the server unload the directory, with everything that runs in it."""
        await self._http.call("POST", "/instance/dispose", directory, seconds=CLOSE_SECONDS)
