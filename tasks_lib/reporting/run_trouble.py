"""Finds what went wrong in a run, and what people did: attempts, blockers, conflicts, reviews, stalls, touches."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks_lib.model import OutcomeName, parse_outcome
from tasks_lib.naming import is_resolve_task
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.reporting.node_timeline import WAITS_FOR
from tasks_lib.reporting.run_facts import Entry, Evidence, RunCommit, RunFacts
from tasks_lib.reporting.run_spending import LANDED

HEARD = "heard of again"
"""How the detail of a node begins that was taken for silent, and was not."""
STILL_OPEN = "still open"
"""How a blocker ended that nobody has answered."""
AFTERWARDS = f"{STILL_OPEN} when the run ended; afterwards "
"""How the end of a blocker begins that was answered after the run."""
LANDED_LATER = "; it landed"
"""How the end of a blocker ends if the node has landed since."""
RESOLVED = "resolved("
GIT_SECONDS = 1.0
"""Git stores whole seconds, so a commit may seem to be made before the event that led to it."""
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
            if one.text("stall") and one.node
        ),
        tuple(_find_alarms(facts)),
        tuple(_find_touches(facts)),
        tuple(_find_unfinished(facts, outcomes)),
    )


def _say_end(outcomes: Mapping[str, OutcomeName], node: str) -> str:
    outcome = outcomes.get(node, OutcomeName.NONE)
    return "it landed" if outcome.is_landed else (str(outcome) or "it has not ended").casefold()


def _find_blockers(facts: RunFacts, outcomes: Mapping[str, OutcomeName]) -> Iterator[Found]:
    """Each blocker and how it ended: a resolver's answer, a person's, other work, or still open.

    For one that the run left open, also what happened to it afterwards.
    """
    resolved = {one.trailers["Task"]: one for one in facts.commits if one.subject.startswith(RESOLVED)}
    for entry in facts.entries:
        if entry.event is JournalEvent.ANSWERED and WAITS_FOR not in entry.text("how"):
            said = f"a resolver {entry.text('how')}"
            yield Found(entry.node, entry.text("kind"), entry.text("reason"), said, (entry.evidence,))
        elif entry.event is JournalEvent.ENDED and entry.text("outcome") == OutcomeName.BLOCKED:
            task = facts.tasks.get(entry.node)
            needed = [one for one in (task.depends_on if task else ()) if is_resolve_task(one)]
            answers = [
                resolved[one] for one in needed if one in resolved and resolved[one].at >= entry.at - GIT_SECONDS
            ]
            said, proof = _say_end(outcomes, entry.node), [one.evidence for one in answers[:1]]
            if answers:
                said = f"{_quote_answer(answers[0])}; {said}"
            elif WAITS_FOR in entry.text("reason"):
                said = f"it waited for other work; {said}"
            elif outcomes.get(entry.node) is OutcomeName.BLOCKED:
                said, proof = _say_afterwards(facts, entry.node, needed)
            yield Found(entry.node, entry.text("kind"), entry.text("reason"), said, (entry.evidence, *proof))


def _quote_answer(commit: RunCommit) -> str:
    return f"a person answered: {commit.subject.partition(': ')[2].rstrip('.')}"


def _say_afterwards(facts: RunFacts, node: str, needed: Sequence[str]) -> tuple[str, list[Evidence]]:
    """How a blocker ended that was open at the end of the run, and the evidence; `needed` are its resolve tasks."""
    said: list[str] = []
    proof: list[Evidence] = []
    answers = [one for one in facts.later if one.subject.startswith(RESOLVED) and one.trailers.get("Task") in needed]
    done = [one for one in needed if (task := facts.tasks.get(one)) and task.is_completed]
    if answers:
        said, proof = [_quote_answer(answers[0])], [answers[0].evidence]
    elif done and len(done) == len(needed):
        said, proof = [f"{done[-1]} was completed"], [Evidence("task", done[-1])]
    landed = [one for one in facts.later if one.subject.startswith(LANDED) and one.trailers.get("Task") == node]
    if landed:
        said, proof = [*said, "it landed"], [*proof, landed[0].evidence]
    return f"{AFTERWARDS}{'; '.join(said)}" if said else STILL_OPEN, proof


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
    """What reviewers and review nodes reported; with the follow-up tasks that were made of it, if any."""
    requests = [one for one in facts.commits if one.subject.startswith("requested(")]
    for entry in facts.of(JournalEvent.REVIEWED):
        found, evidence = "; ".join(entry.words("findings")), (entry.evidence,)
        if entry.text("objection") and (commit := _take_request(requests, entry)):
            found = f"{found or entry.text('objection')} (to be done by {_name_follow_ups(commit)})"
            evidence = (*evidence, commit.evidence)
        yield Found(entry.node, entry.text("verdict"), found, entry.text("objection"), evidence)
    for commit in requests:  # Nothing else is known of these reviews.
        what = f"what {_name_follow_ups(commit)} had to do"
        yield Found(commit.trailers["Task"], "changes requested", what, "follow-up tasks", (commit.evidence,))


def _take_request(requests: list[RunCommit], entry: Entry) -> RunCommit | None:
    """Remove and return the commit of `requests` with which the review node of `entry` asked for follow-up tasks."""
    for commit in requests:
        if commit.trailers["Task"] == entry.node and commit.at >= entry.at - GIT_SECONDS:
            requests.remove(commit)
            return commit
    return None


def _name_follow_ups(commit: RunCommit) -> str:
    return commit.subject.partition(": ")[2]


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
        if commit.subject.startswith(RESOLVED):
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
