"""Decides what follows when a turn ends unfinished: a nudge, guidance, another attempt, or that the node is blocked."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

GUIDED_FROM = 2
"""The unfinished turn from which on the agent gets guidance: one reminder alone has not helped."""
MAX_SAID = 1_000
_ADVICE = (
    "Do not do the same again. Read the exact error once more, and try something else: a smaller step, another tool, "
    "or the code that the error comes from.\n"
    "If the task cannot be done like that, take the Safe Exit now: commit coherent partial work, run\n"
    '    coordinator notify --level blocking "WHAT YOU WANTED, THE EXACT ERROR, WHAT YOU TRIED, WHAT WOULD HELP"\n'
    "and end your turn."
)


class Step(StrEnum):
    """What follows an unfinished turn, in the order of the ladder."""

    NUDGE = "nudged"
    GUIDANCE = "guided"
    ATTEMPT = "another attempt"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Seen:
    """An unfinished turn: the `reason`, the `nudge` for it, and the worktree's content after it ("" if unknown)."""

    reason: str
    nudge: str
    work: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many times a session may be told to continue, and whether the node may be attempted once more."""

    nudges: int
    has_attempt: bool


def decide_step(seen: Sequence[Seen], bounds: Bounds) -> Step:
    """Say what follows the last of `seen`, the unfinished turns since the session got its task; at least one."""
    if len(seen) > bounds.nudges:
        return Step.ATTEMPT if bounds.has_attempt else Step.BLOCKED
    return Step.GUIDANCE if len(seen) >= GUIDED_FROM else Step.NUDGE


def has_attempt(number: int, allowance: int, attempts: int) -> bool:
    """Whether a node may be attempted again after attempt `number`; `allowance` was the first since it was blocked."""
    return number - allowance + 1 < attempts


def count_unchanged(seen: Sequence[Seen]) -> int:
    """How many of the last turns in a row left the worktree and the branch as the one before them did."""
    count = 0
    for before, after in zip(reversed(seen[:-1]), reversed(seen), strict=False):
        if not after.work or after.work != before.work:
            break
        count += 1
    return count


def write_prompt(step: Step, seen: Sequence[Seen]) -> str:
    """The prompt of the next turn; guidance says what was seen in each turn, oldest first."""
    if step is not Step.GUIDANCE:
        return seen[-1].nudge
    said = "\n".join(f"- {one.reason[:MAX_SAID]}" for one in seen)
    turns = count_unchanged(seen)
    unchanged = "\nNothing in your worktree and on your branch has changed since." if turns else ""
    return f"Your last {len(seen)} turns ended unfinished:\n{said}{unchanged}\n\n{seen[-1].nudge}\n\n{_ADVICE}"
