"""Decides whether a session, a node or a run has exceeded its budget of tokens, money, turns or time."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

SECONDS_TO_SAY = 60
"""From here on, durations are shown in minutes."""
MAX_NUMBER = 1 << 53
"""Nothing that is counted comes near it; with larger numbers, not every computation has a result."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What agents used: input, output and reasoning `tokens` (without cached ones), `cost` in US dollars by the
    provider's prices, model `calls`, `turns` (prompts), and `seconds` in which a session was running.
    """

    tokens: int = 0
    cost: float = 0.0
    calls: int = 0
    turns: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.tokens + other.tokens,
            self.cost + other.cost,
            self.calls + other.calls,
            self.turns + other.turns,
            self.seconds + other.seconds,
        )

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(
            self.tokens - other.tokens,
            self.cost - other.cost,
            self.calls - other.calls,
            self.turns - other.turns,
            self.seconds - other.seconds,
        )

    def __str__(self) -> str:
        """For trailers and reports: `12345 tokens, $0.42, 8 calls, 3 turns, 12 min`; zeros are left out."""
        parts = [f"{self.tokens} tokens"] if self.tokens else []
        parts += [f"${self.cost:.4f}" if self.cost < 0.01 else f"${self.cost:.2f}"] if self.cost else []
        parts += [f"{self.calls} calls"] if self.calls else []
        parts += [f"{self.turns} turn{'s' * (self.turns != 1)}"] if self.turns else []
        parts += [_say_seconds(self.seconds)] if self.seconds >= 1 else []
        return ", ".join(parts)


NOTHING = Spent()
_PART = re.compile(r"(\$?)(\d{1,15}(?:\.\d{1,9})?) ?(tokens|calls|turns?|s|min)?")


def read_spent(text: str) -> Spent:
    """Read what `str(Spent)` has written, rounded as it is there; what cannot be read counts as nothing."""
    found: dict[str, float] = {}
    for part in text.split(", "):
        if match := _PART.fullmatch(part):
            found["cost" if match[1] else (match[3] or "").removesuffix("s") or "s"] = float(match[2])
    return Spent(
        int(found.get("token", 0)),
        found.get("cost", 0.0),
        int(found.get("call", 0)),
        int(found.get("turn", 0)),
        found.get("s", 0.0) + SECONDS_TO_SAY * found.get("min", 0.0),
    )


def _say_seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < SECONDS_TO_SAY else f"{seconds / 60:.0f} min"


def add_up(parts: Iterable[Spent]) -> Spent:
    """The sum of `parts`."""
    return sum(parts, NOTHING)


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits in the units of `Spent`; 0 means no limit. `name` is where they are set, e.g. `budget.node`.

    `spender` says who spends it, as ` by a, b`, if that is not the session whose turn it is.
    """

    name: str = ""
    tokens: int = 0
    cost: float = 0.0
    turns: int = 0
    seconds: float = 0.0
    spender: str = ""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A budget, and what was spent of it before the current turn."""

    budget: Budget
    before: Spent = NOTHING


def find_excess(allowances: Iterable[Allowance], spent: Spent) -> str:
    """The budget that `spent` exceeds, as a clause for a reason; "" if there is none.

    A budget is exceeded once more than its limit is spent, so a limit of N turns allows N whole turns.
    """
    for allowance in allowances:
        if excess := _compare(allowance.budget, allowance.before + spent):
            return excess
    return ""


def find_seconds_left(allowances: Iterable[Allowance]) -> float:
    """How long a session may still run, in seconds; infinite without a limit."""
    limits = (one for one in allowances if one.budget.seconds)
    return min((max(0.0, one.budget.seconds - one.before.seconds) for one in limits), default=float("inf"))


def _compare(budget: Budget, spent: Spent) -> str:
    for name in ("tokens", "cost", "turns", "seconds"):
        limit, used = getattr(budget, name), getattr(spent, name)
        if limit and used > limit:
            return f"{budget.name}.{name} is {limit:g}, but {used:.6g} were spent{budget.spender}"
    return ""


def is_countable(value: object) -> TypeGuard[float]:
    """Whether `value`, from JSON, is a number to count with: JSON has infinite and endlessly long ones too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < MAX_NUMBER  # Also False for NaN.
