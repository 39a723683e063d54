"""Follows the events that a program prints during a turn, and writes what they say into the log of the session."""

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tasks_lib.agents.json_values import Json, as_object
from tasks_lib.agents.presets.preset import Heard

INTERVAL_SECONDS = 0.3
READ_BYTES = 1 << 20
"""How much is read at once."""
QUIET_SECONDS = 10.0
"""How long a program may be silent that said it asks its provider again after a limit; it may wait for an hour."""

Read = Callable[[Heard, Json], tuple[Heard, str]]


class EventStream:
    """Reads the events in `output`, which grows meanwhile; `heard` is what they have said so far.

    Lines that are not events are taken into the log as they are. `on_change` is called in the event loop after `heard`
    has changed.
    """

    def __init__(self, read: Read, begin: Heard, output: Path, log: Path, on_change: Callable[[Heard], None]) -> None:
        self.heard: Heard = begin
        self._read: Read = read
        self._output: Path = output
        self._log: Path = log
        self._on_change: Callable[[Heard], None] = on_change
        self._position: int = output.stat().st_size if output.exists() else 0
        self._rest: bytes = b""
        self._heard_at: float = time.monotonic()
        self._told: Heard = begin

    @property
    def is_held_up(self) -> bool:
        """Whether the program waits in silence for a provider that limits requests."""
        return bool(self.heard.retrying) and time.monotonic() > self._heard_at + QUIET_SECONDS

    @asynccontextmanager
    async def following(self) -> AsyncGenerator[None]:
        """Read while the block runs, and all that is left at its end."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            self._drain(is_last=True)
            self._tell()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            self._drain()
            self._tell()

    def _tell(self) -> None:
        if self.heard != self._told:
            self._told = self.heard
            self._on_change(self.heard)

    def _drain(self, *, is_last: bool = False) -> None:
        if not self._output.exists():
            return
        said: list[str] = []
        with self._output.open("rb") as source:
            # The middle of a very long output is removed while the program writes it.
            self._position = min(self._position, source.seek(0, os.SEEK_END))
            source.seek(self._position)
            while data := source.read(READ_BYTES):
                self._heard_at = time.monotonic()
                *lines, self._rest = (self._rest + data).split(b"\n")
                said += [text for line in lines if (text := self._take(line))]
            self._position = source.tell()
        if is_last and self._rest:
            said.append(self._take(self._rest))
            self._rest = b""
        self._write(said)

    def _take(self, line: bytes) -> str:
        text = line.decode("utf-8", "replace")
        try:
            event = as_object(json.loads(text))
        except (ValueError, RecursionError):
            return text
        if not event:
            return text
        self.heard, said = self._read(self.heard, event)
        return said

    def _write(self, said: list[str]) -> None:
        if not said:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as sink:
            sink.write(("\n".join(said) + "\n").encode("utf-8", "surrogateescape"))
