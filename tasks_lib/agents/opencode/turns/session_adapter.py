"""Adapts an opencode session to the `Session` interface: prompted turn by turn, with nothing left once it is closed."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from tasks_lib.agents.backend import SessionSpec, TurnEnd, TurnSpec
from tasks_lib.agents.opencode.api.event_stream import Shared
from tasks_lib.agents.opencode.servers.server_interface import ServerSource
from tasks_lib.agents.opencode.turns.conversation import Conversation
from tasks_lib.agents.opencode.turns.session_limits import SessionLimits
from tasks_lib.agents.opencode.turns.transcript import Transcript
from tasks_lib.agents.opencode.turns.turn_runner import Turn
from tasks_lib.agents.turn_variables import name_turn
from tasks_lib.errors import AgentError
from tasks_lib.process.process_groups import end_groups

__all__ = ["OpencodeSession", "SessionLimits", "Shared"]
CLOSE_SECONDS = 60.0
"""How long ending a session and everything it started may take; ending the server ends what is left after that."""


class OpencodeSession:
    """A session with the role `agent`, on a server of `servers`; `shared` is one object for the whole run.

    `model` is `provider/model`, or "" for the specification's, then the role's. `system` is added to the role's
    instructions, for a role that the server does not have.
    """

    def __init__(
        self,
        spec: SessionSpec,
        servers: ServerSource,
        limits: SessionLimits,
        shared: Shared,
        agent: str,
        model: str = "",
        system: str = "",
    ) -> None:
        self._spec: SessionSpec = spec
        self._servers: ServerSource = servers
        self._limits: SessionLimits = limits
        self._shared: Shared = shared
        self._talk: Conversation = Conversation(
            spec, servers, shared, agent=agent, model=model or spec.model, system=system
        )
        self._transcript: Transcript = Transcript(spec.log)
        self._turn: Turn | None = None
        self._is_used: bool = False
        self._is_closed: bool = False

    async def prompt(self, text: str, turn: TurnSpec) -> TurnEnd:
        """Send `text` and follow the turn to its end; raises AgentError if no server can be reached.

        On a limit, an error or cancellation, the turn is aborted, and everything that its tools started is ended.
        """
        spec = self._spec
        self._servers.write_shell_environment(spec.cwd, {**spec.environment, **name_turn(spec, turn)})
        self._transcript.begin_turn()
        self._transcript.say(f"prompt (attempt {turn.attempt}, turn {turn.turn})", text, time.time())
        self._is_used = True
        throttle = self._shared.throttles.find(self._talk.model)
        self._turn = Turn(spec, self._talk, self._limits, throttle, self._transcript)
        try:
            end = await self._turn.run(text)
            await self._turn.end_shells()
        except BaseException:
            await _finish(self._turn.break_off())
            raise
        finally:
            self._turn = None
        return end

    async def say(self, text: str) -> bool:
        """Steer the running turn; False if there is none."""
        return self._turn is not None and await self._turn.say(text)

    def attach_command(self) -> str:
        """Return a shell line that opens the conversation in opencode's own interface, "" before the first prompt."""
        return self._talk.attach_command()

    async def close(self) -> None:
        """Make the server unload the worktree, end what is left, and release the lease; only once."""
        if not self._is_closed:
            self._is_closed = True
            await _finish(self._close())

    async def _close(self) -> None:
        try:
            if self._turn is not None:
                await self._turn.break_off()
            await self._talk.server.dispose(self._spec.cwd)
            if self._is_used:
                await end_groups((), self._spec.stop_seconds, session=self._spec.session)
        finally:
            await self._talk.server.leave()


async def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Await `work`, even if cancelled meanwhile, for at most `CLOSE_SECONDS`; an error in it must not hide another."""

    async def work_bounded() -> None:
        async with asyncio.timeout(CLOSE_SECONDS):
            await work

    task, was_cancelled = asyncio.ensure_future(work_bounded()), False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            was_cancelled = True
    with suppress(AgentError, TimeoutError):
        task.result()
    if was_cancelled:
        raise asyncio.CancelledError
