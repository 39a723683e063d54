"""Decides whether this machine has enough memory and disk left for another session."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from tasks_lib.process.host_resources import HostResources, read_host_resources
from tasks_lib.settings.time_schema import WatchSettings

LOOK_SECONDS = 10.0
"""How often a closed gate looks again, and how long what it found counts otherwise."""
ALONE_SECONDS = 600.0
"""How long a run waits that has no session itself: nothing of it will make room."""


class StartGate:
    """Holds new sessions back while the machine that holds `directory` has too little left.

    `say` tells the user when sessions begin to wait, and when they start again.
    """

    def __init__(
        self,
        watch: WatchSettings,
        directory: Path,
        say: Callable[[str], None],
        read: Callable[[Path], HostResources] = read_host_resources,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._watch: WatchSettings = watch
        self._directory: Path = directory
        self._say: Callable[[str], None] = say
        self._read: Callable[[Path], HostResources] = read
        self._clock: Callable[[], float] = clock
        self._shortage: str = ""
        self._closed_at: float = 0.0
        self._looks_at: float = 0.0

    @property
    def looks_at(self) -> float:
        """When to ask again, in seconds since the epoch."""
        return self._looks_at

    async def find_shortage(self) -> str:
        """What is missing for another session, as the start of a sentence, "" if nothing."""
        now = self._clock()
        if now < self._looks_at:
            return self._shortage
        self._looks_at = now + LOOK_SECONDS
        before, found = self._shortage, await asyncio.to_thread(self._read, self._directory)
        self._shortage = describe_shortage(found, self._watch)
        if self._shortage and not before:
            self._closed_at = now
            self._say(f"{self._shortage}. No further session starts until then.")
        elif before and not self._shortage:
            self._say("There is room for further sessions again.")
        return self._shortage

    def is_given_up(self) -> bool:
        """Whether a run without any session has waited long enough."""
        return bool(self._shortage) and self._clock() > self._closed_at + ALONE_SECONDS


def describe_shortage(found: HostResources, watch: WatchSettings) -> str:
    """Why no session may start with what was found, "" if one may."""
    if found.memory_mb < watch.free_memory_mb:
        return (
            f"Only {found.memory_mb} MB of memory is available, and watch.free_memory_mb asks for "
            f"{watch.free_memory_mb} before a session starts"
        )
    if found.disk_mb < watch.free_disk_mb:
        return (
            f"Only {found.disk_mb} MB of the disk with the worktrees is free, and watch.free_disk_mb asks for "
            f"{watch.free_disk_mb} before a session starts"
        )
    return ""
