"""Follows what an agent's shells do while they run, because the agent's server reports only what they print."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tasks_lib.session import liveness
from tasks_lib.session.events import Member
from tasks_lib.session.liveness import Liveness, Sample, find_input_waits

SHELL = "bash"
"""The tool whose processes carry the session's marker."""
MAX_INTERVAL_SECONDS = 5.0
START_MARGIN_SECONDS = 3.0
"""Start times of processes are rounded by a second or more, and events arrive late."""
SAMPLES_A_LIMIT = 10
"""How many samples are taken in the shortest silence that ends a turn."""


@dataclass(frozen=True, slots=True)
class Shells:
    """The shells of a session, at least one of which has been running since `began` (seconds since the epoch).

    `looked_at` is when their processes were last sampled, or when they began; `liveness` is None before that, and where
    processes cannot be observed.
    """

    began: float
    looked_at: float
    liveness: Liveness | None = None

    @property
    def waits(self) -> list[str]:
        """The commands that wait at a terminal for somebody to type."""
        return find_input_waits(self.liveness) if self.liveness else []

    @property
    def said(self) -> str:
        """What the shells run or wait for, in a few words; "" if nothing is known."""
        return liveness.describe(self.liveness) if self.liveness and self.liveness.last.processes else ""


def follow(shells: Shells | None, members: Iterable[Member], last_heard: float, at: float) -> Shells | None:
    """The shells once an event that came `at` led to `members`; the one before it came at `last_heard`."""
    is_running = any(tool.name == SHELL for member in members for tool in member.tools.values())
    if not is_running:
        return None
    return shells or Shells(last_heard, at)


def take(shells: Shells, sample: Sample | None, at: float) -> Shells:
    """The shells after one more sample; None if processes cannot be observed here.

    Only what started with the running shells can make them wait: an earlier one may have left a program in a terminal.
    """
    if sample is None:
        return replace(shells, looked_at=at)
    processes = tuple(
        replace(one, waits_for_input=one.waits_for_input and one.started >= shells.began - START_MARGIN_SECONDS)
        for one in sample.processes
    )
    known = replace(sample, processes=processes)
    after = liveness.observe(shells.liveness, known) if shells.liveness else liveness.begin(known)
    return replace(shells, looked_at=at, liveness=after)


def was_active(before: Shells, after: Shells) -> bool:
    """Whether the processes did something between two samples."""
    if before.liveness is None or after.liveness is None:
        return False
    return after.liveness.active_at > before.liveness.active_at


def find_interval(stall_seconds: float, tool_seconds: float, input_seconds: float) -> float:
    """How many seconds to leave between two samples under these limits."""
    return min(MAX_INTERVAL_SECONDS, min(stall_seconds, tool_seconds, input_seconds) / SAMPLES_A_LIMIT)
