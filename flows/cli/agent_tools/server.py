"""Serves the tools and the task files over standard input and output, until the client closes them."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextContent,
    TextResourceContents,
    Tool,
)
from pydantic import ValidationError

from flows.cli.agent_tools import operations
from flows.cli.agent_tools.arguments import (
    AbortArguments,
    Arguments,
    MessageArguments,
    NoArguments,
    ReportArguments,
    SpawnArguments,
    StatusArguments,
)
from flows.cli.agent_tools.caller import Caller, identify
from flows.cli.agent_tools.task_resources import MIME_TYPE, START, list_tasks, name_resource, read_task_file
from flows.deployment_version import own_release
from flows.termination_signals import on_signals
from tasks_lib.errors import CoordinatorError
from tasks_lib.git.repository import Repository

INSTRUCTIONS = """Coordinator works on a graph of task files with coding agents, each in a git worktree of its own, and
lands what passes verification. Spawn tasks with coord.spawn, follow them with coord.status (`wait_seconds` waits for an
end), speak to them with coord.message. You coordinate: the sessions write the code, and coordinator merges it."""
Perform = Callable[[Path, Caller, Any], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A tool: what a model reads about it, what it takes, and what does it."""

    description: str
    arguments: type[Arguments]
    perform: Perform


OPERATIONS: Mapping[str, Operation] = {
    "coord.spawn": Operation(
        "Add a task to the run in progress, by the text of a new task file or the id of an existing one. Coordinator "
        "commits the file, and starts a session for it in a worktree of its own once what it depends on is completed. "
        "Returns the session's id, branch and worktree. If a session calls this, the task belongs to it: it counts "
        "against its budget, and is aborted with it.",
        SpawnArguments,
        operations.spawn,
    ),
    "coord.status": Operation(
        "The state of the run's nodes, or of all that a session has spawned (`parent`). With `wait_seconds` it waits "
        "until one of them has ended.",
        StatusArguments,
        operations.tell_status,
    ),
    "coord.message": Operation(
        "Send a message to the agent of a session in progress: during its turn, or with its next prompt.",
        MessageArguments,
        operations.message,
    ),
    "coord.abort": Operation(
        "End a session and, unless the policy is continue-running, all that it has spawned. The work is kept.",
        AbortArguments,
        operations.abort,
    ),
    "coord.plan": Operation(
        "What is left to do: which tasks can run in parallel, the critical path, what would start now, what waits and "
        "why.",
        NoArguments,
        operations.plan,
    ),
    "coord.report": Operation(
        "The after-action report on a run, by default the newest: what went right and wrong, what to improve, what it "
        "cost and why it took that long, each line with its evidence.",
        ReportArguments,
        operations.report,
    ),
}


def make_server(path: Path) -> Server[Any]:
    """Make the server for the repository that contains `path`."""

    async def list_tools(context: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[describe_tool(name, one) for name, one in OPERATIONS.items()])

    async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
        return await call(path, params.name, params.arguments or {})

    async def list_resources(context: Any, params: Any) -> ListResourcesResult:
        tasks = await in_thread(list_tasks, path)
        return ListResourcesResult(
            resources=[
                Resource(uri=name_resource(task.id), name=task.id, title=task.name, mime_type=MIME_TYPE)
                for task in tasks
            ]
        )

    async def list_templates(context: Any, params: Any) -> ListResourceTemplatesResult:
        template = ResourceTemplate(
            uri_template=f"{START}{{+id}}", name="task", title="A task file at the head", mime_type=MIME_TYPE
        )
        return ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(context: Any, params: ReadResourceRequestParams) -> ReadResourceResult:
        text = await in_thread(read_task_file, path, str(params.uri))
        return ReadResourceResult(contents=[TextResourceContents(uri=params.uri, mime_type=MIME_TYPE, text=text)])

    return Server(
        "coordinator",
        version=own_release(),
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


def describe_tool(name: str, operation: Operation) -> Tool:
    return Tool(name=name, description=operation.description, input_schema=operation.arguments.model_json_schema())


async def call(path: Path, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
    """Do what a call asks for. What is wrong with it is in the result, so that the model can correct it."""
    operation = OPERATIONS.get(name)
    if operation is None:
        raise MCPError(INVALID_PARAMS, f"there is no tool {name}; the tools are {', '.join(OPERATIONS)}")
    try:
        given = operation.arguments.model_validate(dict(arguments))
        result = await operation.perform(path, await asyncio.to_thread(identify, Path.cwd()), given)
    except ValidationError as error:
        return refuse("\n".join(map(describe_fault, error.errors())))
    except CoordinatorError as error:
        return refuse(str(error))
    text = TextContent(text=json.dumps(result, ensure_ascii=False, default=str))
    return CallToolResult(content=[text], structured_content=json.loads(text.text))


def describe_fault(fault: Any) -> str:
    where = ".".join(map(str, fault["loc"]))
    said = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def refuse(said: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=said)], is_error=True)


async def in_thread(read: Callable[..., Any], *arguments: Any) -> Any:
    """Read something in a thread; what is wrong with it becomes an error of the protocol."""
    try:
        return await asyncio.to_thread(read, *arguments)
    except CoordinatorError as error:
        raise MCPError(INVALID_PARAMS, str(error)) from error


async def serve(path: Path) -> None:
    server = make_server(path)
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())


def run_server(path: Path) -> int:
    """Serve until the client closes standard input. Raises InputError if `path` is not in a repository."""
    Repository.open(path)
    with on_signals(leave):
        asyncio.run(serve(path))
    return 0


def leave(number: signal.Signals) -> None:
    """End at once: a thread of the SDK reads standard input and cannot be interrupted, and nothing has to be saved."""
    os._exit(128 + number)
