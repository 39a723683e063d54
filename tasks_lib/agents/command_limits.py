"""Decides from a program's exit status whether its provider limits requests, or refuses every other session too."""

import os
import time
from dataclasses import dataclass, replace

from tasks_lib.agents.backend import SessionSpec, SessionView, TurnEnd, TurnSpec
from tasks_lib.agents.throttle import RATE_SECONDS, Throttle
from tasks_lib.session.next_action import describe_limit, describe_pause

LIMITED = os.EX_TEMPFAIL
"""75 of sysexits.h: try again later."""
REFUSED = os.EX_NOPERM
"""77 of sysexits.h: no permission; no session can succeed."""
MIN_WAIT_SECONDS = 1.0
REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class ProviderLimits:
    """What the sessions of one program know together about its provider; a wait may take at most `limit_seconds`."""

    throttle: Throttle
    limit_seconds: float

    async def wait(self, spec: SessionSpec) -> None:
        """Return once the provider may be asked again, and show until when that is."""
        until = self.throttle.until
        if until > time.time() and spec.on_view:
            spec.on_view(SessionView(describe_pause(until)))
        await self.throttle.wait()

    def judge(self, end: TurnEnd, spec: SessionSpec, turn: TurnSpec) -> TurnEnd:
        """The end of a turn that the program itself ended, with what its status says about the provider.

        Reads what the agent reported, so call it in a thread.
        """
        if end.status == REFUSED:
            sentence = f"{end.error}, which means that no session can succeed{_quote(end.answer)}"
            return replace(end, error=sentence, refusal=sentence)
        if end.status != LIMITED:
            return replace(end, error=f"{end.error}{_quote(end.answer)}") if end.status > 0 else end
        notice = spec.find_limit(turn.turn) if spec.find_limit else None
        said = notice.text.strip() if notice else _find_last_line(end.answer)
        return self.limit(end, said, notice.until if notice else 0.0)

    def limit(self, end: TurnEnd, said: str, until: float) -> TurnEnd:
        """The end of a turn that the provider refused with the words `said` until then, 0 if it is not known."""
        now = time.time()
        # A limit that ended while the turn did is over; a time before the turn began says nothing.
        until = until if until > now - end.seconds else now + RATE_SECONDS
        if until > now + self.limit_seconds:
            sentence = describe_limit(until, self.limit_seconds, said)
            return replace(end, error=sentence, refusal=sentence)
        self.throttle.slow_down(max(until, now + MIN_WAIT_SECONDS))
        sentence = f"{end.error}, which means that its provider limits requests{_quote(said)}"
        return replace(end, error=sentence, is_limited=True)


def _quote(text: str) -> str:
    line = _find_last_line(text)
    return f" ({line})" if line else ""


def _find_last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:REASON_CHARACTERS] if lines else ""
