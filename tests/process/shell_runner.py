"""Runs shell scripts for the process tests, and finds the processes that they leave running."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from tasks_lib.process.process_groups import MARKER, Ended, run_group
from tasks_lib.process.process_table import Claim, Row, find

PATH = os.environ["PATH"]
PATIENCE = 20
"""Seconds after which a test stops waiting for an event; far more than any needs."""


def find_marked(session: str) -> list[Row]:
    return find(Claim((), session, is_watched=False))


def has_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Runner:
    """Runs shell scripts in the test's own directory; they report events through the named pipe `events`."""

    def __init__(self, directory: Path, session: str) -> None:
        self.directory = directory
        self.session = session
        self.more: Mapping[str, str] = {}
        self.log = directory / "log"
        self.events = directory / "events"
        os.mkfifo(self.events)

    async def run(
        self, script: str, *, timeout_seconds: float = PATIENCE, stop_seconds: float = 5, **more: Any
    ) -> Ended:
        return await run_group(
            ["sh", "-c", script],
            cwd=self.directory,
            environment=self.environment(),
            log=self.log,
            timeout_seconds=timeout_seconds,
            stop_seconds=stop_seconds,
            **more,
        )

    def environment(self) -> Mapping[str, str]:
        return {"PATH": PATH, **self.more, MARKER: self.session}

    async def hear(self) -> str:
        return await asyncio.wait_for(asyncio.to_thread(self.events.read_text), PATIENCE)

    def output(self) -> str:
        return self.log.read_text()
