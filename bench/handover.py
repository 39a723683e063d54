"""Measures how soon a node's agent gets its first prompt after its prerequisite has landed."""

import errno
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from bench.common import SHARED_MACHINE, TARGET_BRANCH, Edges, Field, coordinate, git, lay_out
from bench.figures import judge

SESSIONS = 30
FILES = 20_000
SPREAD_STEPS = 3
"""Nodes of each chain whose agents take random times; the first has no prerequisite."""
SECONDS = (2.0, 20.0)
SEED = 1
TARGET = 3.0
LATE_SECONDS = 1.0
"""How long the gate stays open for agents that have marked their start but not reached it."""
GATED = f"step-{SPREAD_STEPS}"
LAST = f"step-{SPREAD_STEPS + 1}"


@dataclass(frozen=True, slots=True)
class HandOvers:
    """Seconds from a landing to the dependent's first prompt, for landings spread over time and all at once."""

    spread: tuple[float, ...]
    at_once: tuple[float, ...]


def run() -> str:
    """Run one graph of chains and report how long the hand-overs took; takes a few minutes."""
    found = measure()
    low, high = SECONDS
    return "\n".join(
        [
            f"Hand-over: {SESSIONS} sessions, {FILES} files, from the merge commit to the dependent's first prompt.",
            SHARED_MACHINE,
            tell(f"agents of {low:g} to {high:g} s", found.spread),
            tell(f"all {SESSIONS} at once", found.at_once),
        ]
    )


def tell(what: str, waits: Sequence[float]) -> str:
    high = find_p95(waits)
    return (
        f"{what}: {len(waits)} hand-overs, median {median(waits):.2f} s, p95 {high:.2f} s, worst {max(waits):.2f} s, "
        f"{judge(f'hand-over: {what}, p95, s', high, TARGET)}"
    )


def find_p95(waits: Sequence[float]) -> float:
    """The 95th percentile, interpolated within the observed range."""
    return quantiles(waits, n=20, method="inclusive")[-1]


def measure() -> HandOvers:
    """Run as many chains as there are sessions, so that no node ever waits for a session of another chain.

    The first agents of a chain take random times, which spreads the landings. The agents of the next step wait until
    all of that step have started, and then end together; the last step depends on them.
    """
    edges = chain_up()
    with lay_out(edges, FILES, pause=write_pause(edges)) as place:
        gate = Gate(place)
        coordinate(place, SESSIONS, gate.look)
        waits = find_waits(place, edges)
    at_once = tuple(wait for node, wait in waits.items() if node.endswith(LAST))
    return HandOvers(tuple(wait for node, wait in waits.items() if not node.endswith(LAST)), at_once)


def chain_up() -> Edges:
    chains = [[f"chain-{chain:02}-step-{step}" for step in range(SPREAD_STEPS + 2)] for chain in range(SESSIONS)]
    return {node: (chain[at - 1],) if at else () for chain in chains for at, node in enumerate(chain)}


def write_pause(edges: Edges) -> str:
    """Shell code that makes each agent take its time; the gate is a pipe, so that waiting costs nothing."""
    draw = random.Random(SEED)
    cases = [f"{node}) sleep {draw.uniform(*SECONDS):.2f};;" for node in edges if not node.endswith((GATED, LAST))]
    return "\n".join(['case "$id" in', *cases, f'*{GATED}) read -r _ < "$home/gate" || :;;', "esac"])


class Gate:
    """A named pipe that agents open for reading, and that opens once every chain has reached it."""

    def __init__(self, place: Field) -> None:
        self._began: Path = place.home / "began"
        self._path: Path = place.home / "gate"
        self._writer: int | None = None
        self._opened_at: float | None = None
        os.mkfifo(self._path)

    def look(self) -> None:
        """Open the gate when all agents have started; close it, which releases them, once none can still be late."""
        if self._opened_at is None and len(list(self._began.glob(f"*{GATED}"))) == SESSIONS:
            self._open()
        elif self._writer is not None and self._opened_at and time.time() - self._opened_at > LATE_SECONDS:
            os.close(self._writer)
            self._writer = None

    def _open(self) -> None:
        try:
            self._writer = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:  # No agent has opened it for reading yet: the next call tries again.
                raise
        else:
            self._opened_at = time.time()


def find_waits(place: Field, edges: Edges) -> dict[str, float]:
    """Seconds from the landing of its prerequisite to the start of its agent, for each node that has a prerequisite."""
    landed = find_landings(place.repository)
    return {node: place.began(node) - landed[above[0]] for node, above in edges.items() if above}


def find_landings(repository: Path) -> dict[str, float]:
    """When each node's merge commit was written, in seconds since the epoch, from its loose object's mtime.

    A commit's own time has only whole seconds. Without `verify`, the head moves to it a few milliseconds later.
    """
    told = git(
        repository, "log", "--first-parent", "--format=%H %(trailers:key=Task,valueonly,separator=)", TARGET_BRANCH
    )
    pairs = [line.split() for line in told.splitlines()]
    objects = repository / ".git" / "objects"
    return {pair[1]: (objects / pair[0][:2] / pair[0][2:]).stat().st_mtime for pair in pairs if len(pair) > 1}


if __name__ == "__main__":
    print(run())
