"""Words the three lists of an after-action report: what went right, what went wrong, what could be better."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks_lib.reporting.journal_events import Cause, JournalEvent
from tasks_lib.reporting.makespan import AROUND
from tasks_lib.reporting.run_facts import Evidence, RunFacts
from tasks_lib.reporting.run_figures import Figures, Headline
from tasks_lib.reporting.run_trouble import Found
from tasks_lib.text import cut, fold

MAX_CHARS = 240
SHORTEST = 0.5
"""Seconds; the report does not mention shorter parts of a run."""
MUCH = 1.25
"""From this ratio on, a figure is called better or worse than that of the run before."""
FAR_OFF = 2.0
CAUSES = {
    str(Cause.WORK): "agents at work",
    str(Cause.DEPENDENCY): "waiting for other nodes",
    str(Cause.SLOT): "waiting for a free session",
    str(Cause.QUEUE): "waiting in the merge queue",
    str(Cause.VERIFY): "verifying the merge",
    str(Cause.PERSON): "waiting for a person",
    str(Cause.LIMIT): "waiting for a provider",
    str(Cause.RETRY): "waiting before another attempt",
    str(Cause.HELD): "the queue was on hold",
    AROUND: "starting and ending the run",
}
"""What the causes of waiting are called."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the report, and the evidence for it."""

    text: str
    evidence: tuple[Evidence, ...] = ()


def list_right(figures: Figures, facts: RunFacts) -> Iterator[Line]:
    """What went right."""
    commits = {one.id: one.evidence for one in facts.commits}
    landed = {node: commits.get(commit, Evidence("commit", commit)) for node, commit in figures.landed.items()}
    whole = sum(figures.outcomes.values()) or len(landed)
    if landed:
        yield Line(f"{len(landed)} of {_count(whole, 'node')} landed.", tuple(landed.values()))
    troubled = figures.trouble.troubled
    at_once = [node for node in landed if node not in troubled]
    if at_once:
        said = f"{_count(len(at_once), 'node')} landed at once: no attempt failed, and nothing was given back."
        yield Line(said, tuple(landed[node] for node in at_once))
    together = figures.parallelism
    if together.peak:
        allowed = f" of {together.allowed} allowed" if together.allowed else ""
        said = (
            f"Up to {_count(together.peak, 'session')}{allowed} ran at the same time, {together.mean:.1f} on average."
        )
        yield Line(said, together.together)
    for one in figures.trouble.blockers:
        if one.ended.startswith("a resolver"):
            said = f"{one.node} was blocked ({_cut(one.what)}), and needed no person: {_end(one.ended)}"
            yield Line(said, one.evidence)
    yield from _list_recovered("being given back", figures.trouble.refusals)
    yield from _list_recovered("a turn that hung was ended", figures.trouble.stalls)


def _list_recovered(what: str, found: Sequence[Found]) -> Iterator[Line]:
    """Say which nodes landed although something happened to them, in one line."""
    landed = [one for one in found if one.ended == "it landed"]
    if landed:
        nodes = sorted({one.node for one in landed})
        evidence = tuple(evidence for one in landed for evidence in one.evidence)
        yield Line(f"{_count(len(nodes), 'node')} landed after {what}: {_cut(', '.join(nodes))}.", evidence)


def list_wrong(figures: Figures) -> Iterator[Line]:
    """What went wrong."""
    trouble = figures.trouble
    for one in trouble.unfinished:
        yield Line(f"{one.node} ended as {one.about}: {_end(one.what)}", one.evidence)
    for one in trouble.blockers:
        kind = f" ({one.about})" if one.about else ""
        yield Line(f"{one.node} was blocked{kind}: {_end(one.what)} How it ended: {_end(one.ended)}", one.evidence)
    for one in trouble.retries:
        yield Line(f"An attempt at {one.node} failed: {_end(one.what)}", one.evidence)
    for one in trouble.refusals:
        yield Line(f"{one.node} was given back: {_end(one.what)}", one.evidence)
    for one in trouble.stalls:
        yield Line(f"A turn of {one.node} hung, as {one.about}: {_end(one.what)}", one.evidence)


def list_better(figures: Figures, facts: RunFacts, earlier: Sequence[Headline]) -> Iterator[Line]:
    """What could be better."""
    yield from _list_losses(figures, facts)
    for one in figures.trouble.files:
        conflicts = f", and it was in conflict {_times(one.conflicts)}" if one.conflicts else ""
        said = f"{one.path} serialises work: {_count(len(one.nodes), 'node')} changed it{conflicts}."
        yield Line(said, one.evidence)
    asked: defaultdict[str, list[Found]] = defaultdict(list)
    for one in figures.trouble.reviews:
        if one.ended:
            asked[one.node].append(one)
    for node, found in asked.items():
        evidence = tuple(evidence for one in found for evidence in one.evidence)
        yield Line(f"Reviews of {node} asked for: {_cut('; '.join(one.what or one.ended for one in found))}.", evidence)
    for one in figures.trouble.alarms:
        yield Line(f"A false alarm about {one.node}: {_end(one.what)}", one.evidence)
    for one in figures.estimates:
        if one.key == "scope" and one.expected and one.actual and not 1 / FAR_OFF < one.actual / one.expected < FAR_OFF:
            said = f"Scope {one.value} was estimated as {one.expected:.0%} of the work, and was {one.actual:.0%}"
            yield Line(f"{said} ({_count(one.nodes, 'node')}).", (Evidence("run", facts.runs[-1]),))
    yield from _compare(figures, facts, earlier)


def _list_losses(figures: Figures, facts: RunFacts) -> Iterator[Line]:
    """How far the run is from its bound, and what the time between went to."""
    makespan = figures.makespan
    if not makespan.bounds or makespan.seconds <= 0:
        return
    names = {"path": "the longest path of nodes", "sessions": "all sessions' work", "verify": "all verifications"}
    parts = [f"{seconds:.1f} s {CAUSES[cause]}" for cause, seconds in makespan.by_cause.items() if seconds >= SHORTEST]
    said = f"The run took {makespan.seconds:.1f} s; the least possible was {makespan.bound_seconds:.1f} s"
    chain = [link.node for link in makespan.chain if link.node]
    why = f"by {names[makespan.bound]}. It waited for {' → '.join(chain)}: {', '.join(parts)}"
    ends = {one.node: one.evidence for one in facts.of(JournalEvent.ENDED)}
    yield Line(f"{said}, {why}.", tuple(ends[node] for node in chain if node in ends))


def _compare(figures: Figures, facts: RunFacts, earlier: Sequence[Headline]) -> Iterator[Line]:
    """Compare with the run before: seconds a node, and tokens a node."""
    before = next((one for one in earlier if one.landed), None)
    landed = len(figures.landed)
    if before is None or not landed:
        return
    evidence = (Evidence("run", facts.runs[-1]), Evidence("run", before.run))
    pairs = (
        ("seconds", figures.makespan.seconds / landed, before.seconds_a_node),
        ("tokens", figures.spending.total.tokens / landed, before.tokens / before.landed),
    )
    for what, now, then in pairs:
        if then and now and not 1 / MUCH < now / then < MUCH:
            word = "more" if now > then else "fewer"
            said = f"A landed node took {word} {what} than in the run before: {now:.1f} instead of {then:.1f}."
            yield Line(said, evidence)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _end(text: str) -> str:
    """`text`, cut, as the end of a sentence."""
    found = _cut(text)
    return found if found.endswith(("?", "!")) else f"{found}."


def _cut(text: str) -> str:
    return cut(fold(text), MAX_CHARS).rstrip(".")
