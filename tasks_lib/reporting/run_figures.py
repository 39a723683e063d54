"""Computes the figures of a run from its facts, and those in which runs are compared."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks_lib.model import parse_outcome
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.reporting.makespan import Makespan, Parallelism, measure_makespan, measure_parallelism
from tasks_lib.reporting.node_timeline import add_waits, build_timelines
from tasks_lib.reporting.run_facts import Entry, RunFacts
from tasks_lib.reporting.run_spending import (
    LANDED,
    Estimate,
    Spending,
    add_spending,
    compare_estimates,
    count_landed_lines,
)
from tasks_lib.reporting.run_trouble import Trouble, find_trouble


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a run. `attempts` and `lines` are by node, `waits` in seconds by cause, all nodes together.

    `landed` maps nodes to the commits with which they landed, `outcomes` counts how the nodes ended.
    """

    outcomes: Mapping[str, int]
    landed: Mapping[str, str]
    parallelism: Parallelism
    makespan: Makespan
    waits: Mapping[str, float]
    attempts: Mapping[str, int]
    spending: Spending
    lines: Mapping[str, int]
    estimates: tuple[Estimate, ...]
    trouble: Trouble

    @property
    def tokens_a_line(self) -> float:
        """Tokens for each line that landed; 0 if none did."""
        lines = sum(self.lines.values())
        return self.spending.total.tokens / lines if lines else 0.0


@dataclass(frozen=True, slots=True)
class Headline:
    """A run in a row, to compare runs: `seconds` is how long it took, the rest counts."""

    run: str
    started: str
    seconds: float = 0.0
    landed: int = 0
    peak: int = 0
    mean: float = 0.0
    tokens: int = 0
    cost: float = 0.0
    retries: int = 0
    given_back: int = 0
    blockers: int = 0

    @property
    def seconds_a_node(self) -> float:
        """Seconds for each landed node; 0 if none landed."""
        return self.seconds / self.landed if self.landed else 0.0


def measure(facts: RunFacts) -> Figures:
    """Compute the figures of a run."""
    timelines = build_timelines(facts)
    trouble, spending = find_trouble(facts), add_spending(facts)
    ends = {one.node: one for one in facts.of(JournalEvent.ENDED)}
    outcomes: dict[str, int] = {}
    for entry in ends.values():
        outcomes[entry.text("outcome")] = outcomes.get(entry.text("outcome"), 0) + 1
    return Figures(
        outcomes,
        _find_landed(facts, ends),
        measure_parallelism(facts),
        measure_makespan(facts, timelines),
        {str(cause): seconds for cause, seconds in sorted(add_waits(timelines).items())},
        {node: int(entry.number("attempt")) for node, entry in ends.items() if entry.number("attempt")},
        spending,
        count_landed_lines(facts),
        compare_estimates(facts, timelines, spending, trouble.troubled),
        trouble,
    )


def _find_landed(facts: RunFacts, ends: Mapping[str, Entry]) -> Mapping[str, str]:
    """The nodes that landed with their commits: by the journal, and by git for what the journal does not say."""
    by_git = {one.trailers["Task"]: one.id for one in facts.commits if one.subject.startswith(LANDED)}
    told = {
        node: entry.text("commit") for node, entry in ends.items() if parse_outcome(entry.text("outcome")).is_landed
    }
    return {**by_git, **told}


def read_headline(summary: Entry | None) -> Headline | None:
    """The row that a run was summed up in; None if it was not, or by another release."""
    try:
        return Headline(**summary.facts) if summary else None  # pyright: ignore[reportArgumentType]
    except TypeError:
        return None


def make_headline(run: str, known: Figures, started: str) -> Headline:
    """The run with these figures in a row; `started` is ISO 8601."""
    trouble, spent = known.trouble, known.spending.total
    return Headline(
        run,
        started,
        round(known.makespan.seconds, 3),
        len(known.landed),
        known.parallelism.peak,
        round(known.parallelism.mean, 3),
        spent.tokens,
        spent.cost,
        len(trouble.retries),
        len(trouble.refusals),
        len(trouble.blockers),
    )
