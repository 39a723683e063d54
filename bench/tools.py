"""Measures the tools of `coordinator mcp`: from a spawn to the session's first prompt, and the status of many nodes."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from threading import Thread
from typing import Any

import psutil
from mcp import Client, StdioServerParameters, stdio_client

from bench.common import ROOT, SHARED_MACHINE, Field, coordinate, describe_machine, lay_out
from bench.figures import judge

NODES = 200
FILES = 2_000
SESSIONS = 8
SPAWNS = 10
STATUSES = 20
SPAWN_TARGET, STATUS_TARGET = 3.0, 0.3
HOLD = "hold"
PAUSE = f'if [ "$id" = {HOLD} ]; then while [ ! -e "$home/open" ]; do sleep 0.1; done; fi'
WAIT_SECONDS = 60.0


@dataclass(slots=True)
class Figures:
    """Seconds of each call, and megabytes (of 1,000,000 bytes) that the server's process has in use."""

    starts: list[float] = field(default_factory=list[float])
    prompts: list[float] = field(default_factory=list[float])
    statuses: list[float] = field(default_factory=list[float])
    memory: float = 0.0


def run() -> str:
    """Call the tools while a run of many nodes is in progress; takes a few minutes."""
    found = Figures()
    edges = {HOLD: (), **{f"node-{number:03}": (HOLD,) for number in range(NODES - SPAWNS - 1)}}
    with lay_out(edges, FILES, pause=PAUSE) as place:
        caller = Thread(target=lambda: asyncio.run(call_tools(place, found)))
        coordinate(place, SESSIONS, on_start=lambda _: caller.start())
        caller.join()
    return "\n".join(
        [
            f"Tools: a run of {NODES} nodes, {SESSIONS} sessions, {FILES} files; calls one after the other.",
            SHARED_MACHINE,
            f"server ready for calls: {found.starts[0]:.2f} s, {found.memory:.0f} MB at the end",
            tell(f"{SPAWNS} spawns, from the call to the agent's first prompt", found.prompts, SPAWN_TARGET),
            tell(f"{STATUSES} statuses of {NODES} nodes", found.statuses, STATUS_TARGET),
            describe_machine(),
        ]
    )


def tell(what: str, seconds: list[float], target: float) -> str:
    verdict = judge(f"tools: {what}, worst, s", max(seconds), target)
    return f"{what}: median {median(seconds):.2f} s, worst {max(seconds):.2f} s, {verdict}"


async def call_tools(place: Field, found: Figures) -> None:
    """Call the tools once the run has begun; the run continues once everything is measured, or has failed."""
    try:
        await until((place.home / "began" / HOLD).exists)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "GIT_"))}
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "flows.cli", "mcp", str(place.repository)],
            env={**environment, "COORDINATOR_DATA_DIR": str(place.home / "data")},
            cwd=ROOT,
        )
        began = time.time()
        async with Client(stdio_client(server)) as client:
            await client.list_tools()
            found.starts.append(time.time() - began)
            for number in range(SPAWNS):
                found.prompts.append(await spawn(client, place, f"spawned-{number}"))
            for _ in range(STATUSES):
                found.statuses.append(await take(client, "coord.status", {}))
            found.memory = find_memory(str(place.repository))
    finally:
        (place.home / "open").touch()


async def spawn(client: Client, place: Field, task_id: str) -> float:
    task = f"---\nid: {task_id}\nname: Work {task_id}\n---\n## Description\nWork.\n"
    began = time.time()
    await take(client, "coord.spawn", {"task": task})
    mark = place.home / "began" / task_id
    await until(mark.exists)
    return place.began(task_id) - began


async def take(client: Client, name: str, arguments: dict[str, Any]) -> float:
    """How long a call takes that succeeds."""
    began = time.monotonic()
    result = await client.call_tool(name, arguments)
    seconds = time.monotonic() - began
    if getattr(result, "is_error", True):
        raise RuntimeError(f"{name}: {result}")
    return seconds


async def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing happened for {WAIT_SECONDS:g} seconds")
        await asyncio.sleep(0.02)


def find_memory(repository: str) -> float:
    servers = [one for one in psutil.Process().children(recursive=True) if one.cmdline()[-2:] == ["mcp", repository]]
    return max((one.memory_info().rss for one in servers), default=0) / 1e6


if __name__ == "__main__":
    print(run())
