"""Watches the processes of a program's turn: shows what they do, and says when they no longer do anything."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from tasks_lib.agents.backend import SessionView
from tasks_lib.process.process_activity import take_sample
from tasks_lib.process.process_table import Claim, GroupId
from tasks_lib.repetition import Output, is_due, judge_output, note_lines
from tasks_lib.session.liveness import Liveness, Sample, SilenceLimits, begin, describe, find_stall, observe
from tasks_lib.session.spending import Spent

MAX_INTERVAL_SECONDS = 5.0
READ_BYTES = 1 << 16
"""How much of the output is read for each sample."""
SAMPLES_A_LIMIT = 10
"""How many samples are taken in the shortest time after which a turn is ended."""


class CommandWatch:
    """Watches one turn; `stall` or `loop` says why it must be ended, both are "" while it need not be.

    `marker` is the session's, `log` where its output goes. `show` is called with what the turn does. `digest` returns a
    text that changes exactly when the worktree's content does. `lines` is the file whose lines are compared to find out
    whether the turn repeats itself, by default the log.
    """

    def __init__(
        self,
        limits: SilenceLimits,
        marker: str,
        log: Path,
        show: Callable[[SessionView], None] | None,
        digest: Callable[[], Awaitable[str]] | None = None,
        *,
        lines: Path | None = None,
    ) -> None:
        self.stall: str = ""
        self.loop: str = ""
        self._digest: Callable[[], Awaitable[str]] | None = digest
        self._lines: Path = lines or log
        self._read_to: int = self._lines.stat().st_size if self._lines.exists() else 0
        self._rest: str = ""
        self._output: Output = Output(time.time())
        self._limits: SilenceLimits = limits
        self._marker: str = marker
        self._log: Path = log
        self._show: Callable[[SessionView], None] | None = show
        self._group: GroupId | None = None
        shortest = min(limits.stall_seconds, limits.tool_seconds, limits.input_seconds)
        self._interval: float = min(MAX_INTERVAL_SECONDS, shortest / SAMPLES_A_LIMIT)

    def begin(self, group: GroupId) -> None:
        """Watch this process group from now on, and all that carries the session's marker."""
        self._group = group

    def must_stop(self) -> bool:
        return bool(self.stall or self.loop)

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Take samples at intervals while the block runs."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        liveness: Liveness | None = None
        while not self.must_stop():
            await asyncio.sleep(self._interval)
            sample = await asyncio.to_thread(self._take_sample)
            if sample is None:
                continue
            liveness = observe(liveness, sample) if liveness else begin(sample)
            self.stall = find_stall(liveness, self._limits)
            self._tell(liveness)
            await self._judge_output(sample.at)

    async def _judge_output(self, at: float) -> None:
        lines = await asyncio.to_thread(self._read_lines)
        self._output = note_lines(self._output, lines, at)
        if self._digest and is_due(self._output, at, self._limits.tool_seconds):
            work = await self._digest()
            self._output, self.loop = judge_output(self._output, work, at, self._limits.tool_seconds)

    def _read_lines(self) -> list[str]:
        """Read the lines that the turn has printed since the last time; of very many, only the last ones."""
        if not self._lines.exists():
            return []
        with self._lines.open("rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(self._read_to, size - READ_BYTES))
            text = self._rest + source.read().decode("utf-8", "replace")
            self._read_to = source.tell()
        *lines, self._rest = text.split("\n")
        return lines

    def _take_sample(self) -> Sample | None:
        if self._group is None:
            return None
        claim = Claim((self._group,), self._marker, is_watched=True)
        return take_sample(claim, self._log, self._interval / 2)

    def _tell(self, liveness: Liveness) -> None:
        if self._show is None:
            return
        active_at = datetime.fromtimestamp(liveness.active_at, UTC).isoformat(timespec="seconds")
        spent = Spent(turns=1, seconds=liveness.last.at - liveness.began)
        self._show(SessionView(describe(liveness), active_at, spent))
