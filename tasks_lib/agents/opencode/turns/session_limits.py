"""The limits of a session of opencode, as they apply to each of its turns."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks_lib.session.next_action import Limits
from tasks_lib.session.spending import Allowance


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Seconds of silence after which a turn is ended, without and with a running tool, the longest wait for a
    provider's rate limit, the silence that ends a turn whose shell waits at a terminal, and the longest wait during
    which a session keeps its turn."""

    stall_seconds: float
    tool_seconds: float
    limit_seconds: float = 900.0
    input_seconds: float = 120.0
    suspend_seconds: float = 60.0

    def apply(self, ends_at: float, allowances: Sequence[Allowance]) -> Limits:
        """The limits of a turn that may last until `ends_at` and spend what `allowances` leave."""
        return Limits(
            self.stall_seconds,
            self.tool_seconds,
            ends_at,
            tuple(allowances),
            self.limit_seconds,
            self.input_seconds,
            self.suspend_seconds,
        )
