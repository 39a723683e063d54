"""The tools of `coordinator mcp`, called by the client of the protocol's own SDK."""

import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from e2e.conftest import Coordinator
from mcp import Client, StdioServerParameters, stdio_client
from mcp_types import CallToolResult, TextContent


@dataclass(frozen=True, slots=True)
class Tools:
    """What a model can call; `client` is for the rest of the protocol."""

    client: Client

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        result = await self._call(name, arguments)
        assert not result.is_error, read(result)
        return cast("dict[str, Any]", result.structured_content)

    async def refused(self, name: str, **arguments: Any) -> str:
        """What a call that fails says."""
        result = await self._call(name, arguments)
        assert result.is_error, read(result)
        return read(result)

    async def _call(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        result = await self.client.call_tool(name, arguments)
        assert isinstance(result, CallToolResult)
        return result

    async def wait_for(self, *ids: str) -> dict[str, dict[str, Any]]:
        """Hear of ends until each of `ids` has ended; what is said of them by id."""
        while True:
            status = await self.call("coord.status", nodes=list(ids), wait_seconds=50)
            found = {node["id"]: node for node in status["nodes"]}
            if all(node["has_ended"] for node in found.values()):
                return found


def read(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))


@asynccontextmanager
async def open_tools(
    coordinator: Coordinator, place: Path, extra: Mapping[str, str] | None = None
) -> AsyncGenerator[Tools]:
    """Start `coordinator mcp` in the directory `place`, as an agent's program would, until the block ends."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "flows.cli", "mcp"], env=coordinator.environment(extra), cwd=place
    )
    async with Client(stdio_client(server), read_timeout_seconds=120) as client:
        yield Tools(client)
