"""Compares how long a run took with the least that it could have taken, and says what made the difference."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from tasks_lib.model import Task
from tasks_lib.reporting.journal_events import Cause, JournalEvent
from tasks_lib.reporting.node_timeline import Timeline
from tasks_lib.reporting.run_facts import Evidence, RunFacts

AROUND = "run"
"""The part of a run's time before its first node starts and after its last one ends."""


@dataclass(frozen=True, slots=True)
class Link:
    """A part of the chain that the run's time went to: `seconds` of one node, by cause; `node` is "" for `AROUND`."""

    node: str
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Makespan:
    """How long a run took, in seconds, and the least that it could have taken.

    `bounds` has each lower bound by name: the longest path of nodes (`path`), the work of all sessions divided by their
    number (`sessions`), and all verifications, one after the other (`verify`). `bound` names the largest one. `chain`
    are the nodes that the run waited for, first to last; all its seconds add up to those of the run.
    """

    seconds: float
    bounds: Mapping[str, float]
    path: tuple[str, ...]
    chain: tuple[Link, ...]

    @property
    def bound(self) -> str:
        return max(self.bounds, key=lambda name: self.bounds[name]) if self.bounds else ""

    @property
    def bound_seconds(self) -> float:
        return self.bounds.get(self.bound, 0.0)

    @property
    def by_cause(self) -> Mapping[str, float]:
        """What the seconds of the chain went to, most first."""
        totals: defaultdict[str, float] = defaultdict(float)
        for link in self.chain:
            for cause, seconds in link.seconds.items():
                totals[cause] += seconds
        return dict(sorted(totals.items(), key=lambda pair: -pair[1]))


@dataclass(frozen=True, slots=True)
class Parallelism:
    """How many sessions ran at the same time: at most, and on average over the run; `allowed` is `max_sessions`.

    `together` are the turns that ran when it was most.
    """

    allowed: int
    peak: int
    mean: float
    together: tuple[Evidence, ...] = ()


def measure_makespan(facts: RunFacts, timelines: Mapping[str, Timeline]) -> Makespan:
    """Measure the run of `facts`; all is 0 and empty if no node started."""
    start, end = (facts.periods[0][0], facts.periods[-1][1]) if facts.periods else (0.0, 0.0)
    own = {node: one.seconds(Cause.WORK, Cause.VERIFY) for node, one in timelines.items()}
    length, path = find_longest_path(own, facts.tasks)
    work = sum(one.seconds(Cause.WORK) for one in timelines.values())
    verify = sum(one.seconds(Cause.VERIFY) for one in timelines.values())
    bounds = {"path": length, "sessions": work / facts.sessions if facts.sessions else 0.0, "verify": verify}
    return Makespan(end - start, bounds if timelines else {}, path, tuple(_follow(timelines, start, end)))


def _follow(timelines: Mapping[str, Timeline], start: float, end: float) -> list[Link]:
    """Follow the chain back from the node that ended last, to the prerequisite that it waited for, and so on."""
    if not timelines:
        return [Link("", {AROUND: end - start})] if end > start else []
    last = max(timelines.values(), key=lambda one: (one.ended, one.node))
    chain, until = [Link("", {AROUND: end - last.ended})], last.ended
    current: Timeline | None = last
    while current and current.ready < until:
        chain.append(Link(current.node, _sum_between(current, current.ready, until)))
        until, current = current.ready, timelines.get(current.before)
    chain.append(Link("", {AROUND: until - start}))
    return chain[::-1]


def _sum_between(timeline: Timeline, start: float, end: float) -> Mapping[str, float]:
    totals: defaultdict[str, float] = defaultdict(float)
    for span in timeline.spans:
        if (seconds := min(span.end, end) - max(span.start, start)) > 0:
            totals[str(span.cause)] += seconds
    return dict(totals)


def find_longest_path(lengths: Mapping[str, float], tasks: Mapping[str, Task]) -> tuple[float, tuple[str, ...]]:
    """The longest path of nodes that depend on each other, by the `lengths` of the nodes that count."""
    before = {one: [i for i in tasks[one].depends_on if i in lengths] if one in tasks else [] for one in lengths}
    best: dict[str, tuple[float, tuple[str, ...]]] = {}
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError:
        return 0.0, ()  # The task files on the head have faults.
    for node in order:
        length, path = max((best[one] for one in before[node]), default=(0.0, ()))
        best[node] = (length + lengths[node], (*path, node))
    return max(best.values(), default=(0.0, ()))


def measure_parallelism(facts: RunFacts) -> Parallelism:
    """Count the sessions that ran at the same time, from their turns."""
    found = list(facts.of(JournalEvent.TURNED))
    turns = [(one.clock - one.number("seconds"), one.clock) for one in found]
    whole = facts.periods[-1][1] - facts.periods[0][0] if facts.periods else 0.0
    mean = sum(end - start for start, end in turns) / whole if whole > 0 else 0.0
    peak, at = find_peak(turns)
    together = (one.evidence for one, (start, end) in zip(found, turns, strict=True) if start <= at < end)
    return Parallelism(facts.sessions, peak, mean, tuple(together))


def find_peak(intervals: Iterable[tuple[float, float]]) -> tuple[int, float]:
    """The most of `intervals`, begin and end each, that overlap, and when.

    One that ends where another begins does not overlap it.
    """
    steps: Sequence[tuple[float, int]] = sorted(step for start, end in intervals for step in ((start, 1), (end, -1)))
    peak, when, count = 0, 0.0, 0
    for at, change in steps:
        count += change
        if count > peak:
            peak, when = count, at
    return peak, when
