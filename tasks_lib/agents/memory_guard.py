"""Ends the largest process of a session whose processes use more memory than allowed, so that the machine survives."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

from tasks_lib.agents.backend import Session, SessionSpec, TurnEnd, TurnSpec
from tasks_lib.process.process_memory import Memory, end_largest, measure_memory
from tasks_lib.text import cut, fold

LOOK_SECONDS = 2.0
_COMMAND_CHARACTERS = 80


def guard_memory(session: Session, spec: SessionSpec) -> Session:
    """The session with `spec.memory_mb` enforced; itself if that is 0."""
    return GuardedSession(session, spec) if spec.memory_mb else session


class GuardedSession:
    """A session whose processes together may use `spec.memory_mb`.

    The largest process is killed, as the system would do without a limit, but before others on the machine suffer. The
    agent is told where its backend supports that, and the user through `spec.on_excess`.
    """

    def __init__(self, session: Session, spec: SessionSpec) -> None:
        self._session: Session = session
        self._spec: SessionSpec = spec
        self._excess: str = ""

    async def prompt(self, text: str, turn: TurnSpec) -> TurnEnd:
        """Run the turn; if one of its processes was ended and the turn failed, its error says so."""
        self._excess = ""
        async with self._guarding():
            end = await self._session.prompt(text, turn)
        return replace(end, error=f"{end.error}: {self._excess}") if end.error and self._excess else end

    async def say(self, text: str) -> bool:
        """Send `text` to the agent during its turn, as the session does."""
        return await self._session.say(text)

    def attach_command(self) -> str:
        """The shell line that opens the conversation."""
        return self._session.attach_command()

    async def close(self) -> None:
        """End what is left of the session."""
        await self._session.close()

    @asynccontextmanager
    async def _guarding(self) -> AsyncGenerator[None]:
        guarding = asyncio.create_task(self._guard())
        try:
            yield
        finally:
            guarding.cancel()
            await asyncio.gather(guarding, return_exceptions=True)

    async def _guard(self) -> None:
        spec = self._spec
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            found = await asyncio.to_thread(measure_memory, spec.session, spec.memory_mb, LOOK_SECONDS / 2)
            if found is None or not await asyncio.to_thread(end_largest, found):
                continue
            self._excess = describe_excess(found, spec.memory_mb)
            if spec.on_excess:
                spec.on_excess(self._excess)
            await self._session.say(f"{self._excess}. Use less memory, for example fewer processes at a time.")


def describe_excess(found: Memory, limit_mb: int) -> str:
    """What was ended and why, as a sentence without its full stop."""
    command = cut(fold(found.command), _COMMAND_CHARACTERS)
    return (
        f"`{command}` was ended: it used {found.largest_mb} MB of the {found.total_mb} MB of this session's processes, "
        f"and watch.memory_mb allows {limit_mb}"
    )
