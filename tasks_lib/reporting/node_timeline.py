"""Divides the time of each node of a run into work and waits, by what it waited for."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks_lib.model import OutcomeName, Stage, Task, parse_outcome
from tasks_lib.naming import is_resolve_task
from tasks_lib.reporting.journal_events import Cause, JournalEvent
from tasks_lib.reporting.run_facts import Entry, RunFacts

_CHANGES = (JournalEvent.STAGE, JournalEvent.ENDED, JournalEvent.REOPENED, JournalEvent.RETRYING)
_QUEUED: Mapping[str, Cause] = {Stage.QUEUED: Cause.QUEUE, Stage.VERIFY: Cause.VERIFY}
WAITS_FOR = "it waits for "
"""How the reason of a blocked node says that it only depends on something else from now on."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a node's time, on the clock of the entries."""

    cause: Cause
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Timeline:
    """The time of one node. `ready` is when it could have started first, `before` the prerequisite that landed then.

    `spans` begin where the first node could start, and cover the time until `ended` without a gap; a blocked node's
    cover the time to the end of the run. `before` is "" if it was ready from the start on.
    """

    node: str
    ready: float
    ended: float
    outcome: OutcomeName
    spans: tuple[Span, ...]
    before: str = ""

    def seconds(self, *causes: Cause) -> float:
        """How long the node waited for one of these causes, or worked."""
        return sum(span.seconds for span in self.spans if span.cause in causes)


def build_timelines(facts: RunFacts) -> Mapping[str, Timeline]:
    """The timeline of each node that started, by id."""
    by_node: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in facts.entries:
        if entry.node and (entry.event in _CHANGES or entry.event is JournalEvent.WAITED):
            by_node[entry.node].append(entry)
    stages = list(facts.of(JournalEvent.STAGE))
    started = {one.node: by_node[one.node] for one in stages}
    landed = _find_landings(facts)
    first = min((one.clock for one in stages), default=0.0)
    last = facts.periods[-1][1] if facts.periods else first
    return {
        node: _build(found, facts.tasks.get(node), landed, (first, last)) for node, found in sorted(started.items())
    }


def _find_landings(facts: RunFacts) -> Mapping[str, float]:
    """When each node landed, on the clock; resolve tasks, when a person completed them."""
    landed = (one for one in facts.of(JournalEvent.ENDED) if parse_outcome(one.text("outcome")).is_landed)
    clocks = _Clocks(facts.entries)
    done = {one.trailers["Task"]: clocks.at(one.at) for one in facts.commits if one.subject.startswith("resolved(")}
    return {**done, **{entry.node: entry.clock for entry in landed}}


class _Clocks:
    """Converts times of commits to the clock of the entries."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._times = [entry.at for entry in entries]

    def at(self, moment: float) -> float:
        position = bisect_right(self._times, moment) - 1
        if position < 0:
            return 0.0
        entry = self._entries[position]
        following = self._entries[position + 1].clock if position + 1 < len(self._entries) else entry.clock
        return min(entry.clock + moment - entry.at, max(entry.clock, following))


def _build(
    entries: Sequence[Entry], task: Task | None, landed: Mapping[str, float], run: tuple[float, float]
) -> Timeline:
    """The timeline of a node with these `entries`; `run` is when the first node could start, and the end of the run."""
    first, last = run
    changes = [entry for entry in entries if entry.event in _CHANGES]
    start = next(entry.clock for entry in changes if entry.event is JournalEvent.STAGE)
    needed = task.depends_on if task else ()
    known = ((landed[one], one) for one in needed if first < landed.get(one, 0.0) <= start)
    ready, before = max(known, default=(min(first, start), ""))
    outcome, ended = parse_outcome(changes[-1].text("outcome")), changes[-1].clock
    spans = [Span(Cause.DEPENDENCY, first, ready), Span(Cause.SLOT, ready, start)]
    answers = [landed[one] for one in needed if one in landed and is_resolve_task(one)]
    spans += _divide([one for one in changes if one.clock >= start], last, answers)
    for entry in entries:
        if entry.event is JournalEvent.WAITED:
            cause = Cause(entry.text("cause") or Cause.SLOT)
            spans = list(_carve(spans, Span(cause, entry.clock - entry.number("seconds"), entry.clock)))
    if outcome is OutcomeName.NONE:
        ended = last
    return Timeline(entries[0].node, ready, ended, outcome, tuple(one for one in spans if one.end > one.start), before)


def _divide(changes: Sequence[Entry], last: float, answers: Sequence[float]) -> Iterator[Span]:
    for position, entry in enumerate(changes):
        end = changes[position + 1].clock if position + 1 < len(changes) else last
        cause = _find_cause(entry)
        if cause is None:
            continue
        answered = [moment for moment in answers if entry.clock <= moment < end]
        if cause is Cause.PERSON and answered:
            yield Span(cause, entry.clock, answered[0])
            yield Span(Cause.SLOT, answered[0], end)
        else:
            yield Span(cause, entry.clock, end)


def _find_cause(entry: Entry) -> Cause | None:
    """What a node does or waits for after `entry`, None if it has ended."""
    match entry.event:
        case JournalEvent.RETRYING:
            return Cause.RETRY
        case JournalEvent.REOPENED:
            return Cause.QUEUE
        case JournalEvent.ENDED:
            if parse_outcome(entry.text("outcome")) is not OutcomeName.BLOCKED:
                return None
            return Cause.DEPENDENCY if WAITS_FOR in entry.text("reason") else Cause.PERSON
        case _:
            stage, detail = entry.text("stage"), entry.text("detail")
            # With a detail, it only waits for its turn to be verified before a review.
            return Cause.QUEUE if stage == Stage.VERIFY and detail else _QUEUED.get(stage, Cause.WORK)


def _carve(spans: Sequence[Span], wait: Span) -> Iterator[Span]:
    """`spans`, with the time of `wait` given to its cause."""
    for span in spans:
        start, end = max(span.start, wait.start), min(span.end, wait.end)
        if start >= end or span.cause is wait.cause:
            yield span
            continue
        yield Span(span.cause, span.start, start)
        yield Span(wait.cause, start, end)
        yield Span(span.cause, end, span.end)


def add_waits(timelines: Mapping[str, Timeline]) -> Mapping[Cause, float]:
    """How long all nodes together worked, and waited for each cause, in seconds."""
    totals: defaultdict[Cause, float] = defaultdict(float)
    for timeline in timelines.values():
        for span in timeline.spans:
            totals[span.cause] += span.seconds
    return dict(totals)
