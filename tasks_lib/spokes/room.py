"""Holds a new session back while this machine has too little memory or disk left for it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tasks_lib.errors import SystemFailure
from tasks_lib.process.host_resources import HostResources, read_host_resources
from tasks_lib.runtime.start_gate import LOOK_SECONDS, StartGate
from tasks_lib.settings.time_schema import WatchSettings


async def wait_for_room(
    watch: WatchSettings,
    directory: Path,
    show: Callable[[str], None],
    say: Callable[[str], None],
    read: Callable[[Path], HostResources] = read_host_resources,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Return once a session may start beside `directory`; `show` gets what is missing, and "" in the end.

    `say` is called when the wait begins and ends. Raises SystemFailure after `watch.turn_seconds`.
    """
    waited = 0.0
    gate = StartGate(watch, directory, say, read, lambda: waited)
    while shortage := await gate.find_shortage():
        if waited >= watch.turn_seconds:
            raise SystemFailure(f"{shortage}; that has not changed for {watch.turn_seconds:g} seconds")
        show(shortage)
        await pause(LOOK_SECONDS)
        waited += LOOK_SECONDS
    if waited:
        show("")
