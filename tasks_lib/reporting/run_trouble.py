"""Finds what went wrong in a run, and what people did: attempts, blockers, conflicts, reviews, stalls, touches."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tasks_lib.model import OutcomeName, parse_outcome
from tasks_lib.naming import is_resolve_task
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.reporting.node_timeline import WAITS_FOR
from tasks_lib.reporting.run_facts import Entry, Evidence, RunFacts
from tasks_lib.reporting.run_spending import LANDED

HEARD = "heard of again"
"""How the detail of a node begins that was taken for silent, and was not."""
MANY_NODES = 3
"""A file that as many nodes change serialises work, even where git merges it."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something that happened to a node: `what` in a few words, and how it `ended`, "" if it needs no end.

    `about` is its kind, such as that of a blocker, or the cause for which work was given back.
    """

    node: str
    about: str
    what: str
    ended: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class SharedFile:
    """A file that several nodes changed: `nodes` landed changes of it, `conflicts` times it was in conflict."""

    path: str
    nodes: tuple[str, ...]
    conflicts: int
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What went wrong, each in order of time.

    `retries` are failed attempts, `refusals` work that was given back, `reviews` reports with findings or objections,
    `stalls` turns that were ended because nothing happened, `alarms` warnings that came to nothing, `touches` what
    people did, `unfinished` nodes that failed, were aborted or skipped.
    """

    retries: tuple[Found, ...]
    blockers: tuple[Found, ...]
    refusals: tuple[Found, ...]
    files: tuple[SharedFile, ...]
    reviews: tuple[Found, ...]
    stalls: tuple[Found, ...]
    alarms: tuple[Found, ...]
    touches: tuple[Found, ...]
    unfinished: tuple[Found, ...]

    @property
    def troubled(self) -> frozenset[str]:
        """The nodes that did not land at once."""
        return frozenset(one.node for one in (*self.retries, *self.blockers, *self.refusals, *self.stalls))


def find_trouble(facts: RunFacts) -> Trouble:
    """Find all of it."""
    outcomes = {one.node: parse_outcome(one.text("outcome")) for one in facts.of(JournalEvent.ENDED)}
    return Trouble(
        tuple(Found(one.node, "", one.text("reason"), "", (one.evidence,)) for one in facts.of(JournalEvent.RETRYING)),
        tuple(_find_blockers(facts, outcomes)),
        tuple(
            Found(one.node, one.text("cause"), one.text("reason"), _say_end(outcomes, one.node), (one.evidence,))
            for one in facts.of(JournalEvent.REFUSED)
        ),
        tuple(_find_shared_files(facts)),
        tuple(_find_reviews(facts)),
        tuple(
            Found(one.node, one.text("role"), one.text("stall"), _say_end(outcomes, one.node), (one.evidence,))
            for one in facts.of(JournalEvent.TURNED)
            if one.text("stall")
        ),
        tuple(_find_alarms(facts)),
        tuple(_find_touches(facts)),
        tuple(_find_unfinished(facts, outcomes)),
    )


def _say_end(outcomes: Mapping[str, OutcomeName], node: str) -> str:
    outcome = outcomes.get(node, OutcomeName.NONE)
    return "it landed" if outcome.is_landed else (str(outcome) or "it has not ended").casefold()


def _find_blockers(facts: RunFacts, outcomes: Mapping[str, OutcomeName]) -> Iterator[Found]:
    """Each blocker and how it ended: a resolver's answer, a person's, other work, or still open."""
    resolved = {one.trailers["Task"]: one for one in facts.commits if one.subject.startswith("resolved(")}
    for entry in facts.entries:
        if entry.event is JournalEvent.ANSWERED and WAITS_FOR not in entry.text("how"):
            said = f"a resolver {entry.text('how')}"
            yield Found(entry.node, entry.text("kind"), entry.text("reason"), said, (entry.evidence,))
        elif entry.event is JournalEvent.ENDED and entry.text("outcome") == OutcomeName.BLOCKED:
            task = facts.tasks.get(entry.node)
            needed = [one for one in (task.depends_on if task else ()) if is_resolve_task(one)]
            answers = [resolved[one] for one in needed if one in resolved and resolved[one].at >= entry.at - 1]
            said = _say_end(outcomes, entry.node)
            if answers:
                text = answers[0].subject.partition(": ")[2]
                said = f"a person answered: {text.rstrip('.')}; {said}"
            elif WAITS_FOR in entry.text("reason"):
                said = f"it waited for other work; {said}"
            elif outcomes.get(entry.node) is OutcomeName.BLOCKED:
                said = "still open"
            evidence = (entry.evidence, *(one.evidence for one in answers[:1]))
            yield Found(entry.node, entry.text("kind"), entry.text("reason"), said, evidence)


def _find_shared_files(facts: RunFacts) -> Iterator[SharedFile]:
    """Files in conflict, and those that many nodes changed, the worst first."""
    conflicts: Counter[str] = Counter()
    nodes: defaultdict[str, list[str]] = defaultdict(list)
    evidence: defaultdict[str, list[Evidence]] = defaultdict(list)
    for entry in facts.of(JournalEvent.REFUSED):
        for path in entry.words("paths"):
            conflicts[path] += 1
            evidence[path].append(entry.evidence)
    for commit in facts.commits:
        if commit.is_ours and commit.subject.startswith(LANDED):
            for path in commit.lines:
                nodes[path].append(commit.trailers["Task"])
                evidence[path].append(commit.evidence)
    wanted = [path for path in {*nodes, *conflicts} if conflicts[path] or len(nodes[path]) >= MANY_NODES]
    for path in sorted(wanted, key=lambda path: (-conflicts[path], -len(nodes[path]), path)):
        yield SharedFile(path, tuple(nodes[path]), conflicts[path], tuple(evidence[path]))


def _find_reviews(facts: RunFacts) -> Iterator[Found]:
    for entry in facts.of(JournalEvent.REVIEWED):
        found = "; ".join(entry.words("findings"))
        yield Found(entry.node, entry.text("verdict"), found, entry.text("objection"), (entry.evidence,))
    for commit in facts.commits:
        if commit.subject.startswith("requested("):
            what = commit.subject.partition(": ")[2]
            yield Found(commit.trailers["Task"], "changes requested", what, "follow-up tasks", (commit.evidence,))


def _find_alarms(facts: RunFacts) -> Iterator[Found]:
    """Sessions that were taken for silent and were heard of again, and expected conflicts that did not come."""
    conflicts: defaultdict[str, set[str]] = defaultdict(set)
    for entry in facts.of(JournalEvent.REFUSED):
        conflicts[entry.node].update(entry.words("paths"))
    told: set[frozenset[str]] = set()
    for entry in facts.entries:
        if entry.event is JournalEvent.STAGE and entry.text("detail").startswith(HEARD):
            yield Found(entry.node, "silence", "it was silent, and heard of again", "", (entry.evidence,))
        elif entry.event is JournalEvent.CONFLICT_EXPECTED:
            other = entry.text("other")
            pair, paths = frozenset((entry.node, other)), {path.strip() for path in entry.text("paths").split(",")}
            came = paths & (conflicts[entry.node] | conflicts[other])
            if not came and pair not in told:
                told.add(pair)
                what = f"a conflict with {other} in {entry.text('paths')} was expected, and did not come"
                yield Found(entry.node, "conflict", what, "", (entry.evidence,))


def _find_touches(facts: RunFacts) -> Iterator[Found]:
    """What people did: requests to the run, answers to blockers, and their own commits on the target."""
    asked = list(facts.of(JournalEvent.REQUESTED))
    for entry in asked:
        yield Found(entry.node, entry.text("what"), entry.text("text"), "", (entry.evidence,))
    answered = {entry.node for entry in asked if entry.text("what") == "resolve"}
    for commit in facts.commits:
        if commit.subject.startswith("resolved("):
            resolve_id = commit.trailers.get("Task", "")
            waiting = {task.id for task in facts.tasks.values() if resolve_id in task.depends_on}
            if not answered.isdisjoint({resolve_id, *waiting}):
                continue
            what = commit.subject.partition(": ")[2]
            yield Found(resolve_id, "resolve", what, "", (commit.evidence,))
        elif not commit.trailers.get("Task") and not commit.trailers.get("Run"):
            yield Found("", "commit", f"{commit.author}: {commit.subject}", "", (commit.evidence,))


def _find_unfinished(facts: RunFacts, outcomes: Mapping[str, OutcomeName]) -> Iterator[Found]:
    last: dict[str, Entry] = {one.node: one for one in facts.of(JournalEvent.ENDED)}
    for node, entry in last.items():
        if outcomes[node] in (OutcomeName.FAILED, OutcomeName.ABORTED, OutcomeName.SKIPPED):
            yield Found(node, str(outcomes[node]), entry.text("reason"), "", (entry.evidence,))
