"""Adds up what a run used and made: tokens and money by node, role and model, landed lines, and estimates' actuals."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tasks_lib.model import Task
from tasks_lib.reporting.journal_events import Cause, JournalEvent
from tasks_lib.reporting.node_timeline import Timeline
from tasks_lib.reporting.run_facts import Entry, RunFacts
from tasks_lib.session.spending import NOTHING, Spent, add_up

UNNAMED = "(not named)"
"""Where there is no model, or no scope or risk."""
THE_REPORT = "(the report)"
"""In place of a node: the turn in which a summary of the report was written."""
SUCCESS: Mapping[str, float] = {"trivial": 0.98, "low": 0.90, "medium": 0.80, "high": 0.65, "critical": 0.50}
"""taskgraph's estimate for each risk: the share of tasks that succeed at once."""
LANDED = ("Merge ", "Check ")


@dataclass(frozen=True, slots=True)
class Spending:
    """What the turns of the sessions used: in all, and by node, role and model, the most expensive first."""

    total: Spent
    by_node: Mapping[str, Spent]
    by_role: Mapping[str, Spent]
    by_model: Mapping[str, Spent]


@dataclass(frozen=True, slots=True)
class Estimate:
    """The landed nodes of one scope or risk (`value`), compared with what that promises.

    `key` is `scope` or `risk`. `seconds` and `tokens` are what they took together, `median_seconds` per node.
    `expected` is the share of work that taskgraph's effort gives them or, for a risk, of nodes that succeed at once;
    `actual` is the share that it was. None if taskgraph has no number for the value.
    """

    key: str
    value: str
    nodes: int
    seconds: float
    median_seconds: float
    tokens: int
    expected: float | None
    actual: float


def add_spending(facts: RunFacts) -> Spending:
    """Add up the turns of a run."""
    turns = [(one, _read_spent(one)) for one in facts.of(JournalEvent.TURNED)]
    return Spending(
        add_up(spent for _, spent in turns),
        _group(turns, lambda turn: turn.node or THE_REPORT),
        _group(turns, lambda turn: turn.text("role") or UNNAMED),
        _group(turns, lambda turn: turn.text("model") or UNNAMED),
    )


def _read_spent(turn: Entry) -> Spent:
    numbers = int(turn.number("tokens")), turn.number("cost"), int(turn.number("calls"))
    return Spent(*numbers, turns=1, seconds=turn.number("seconds"))


def _group(turns: Iterable[tuple[Entry, Spent]], key: Callable[[Entry], str]) -> Mapping[str, Spent]:
    groups: defaultdict[str, Spent] = defaultdict(lambda: NOTHING)
    for turn, spent in turns:
        groups[key(turn)] += spent
    return dict(sorted(groups.items(), key=lambda pair: (-pair[1].cost, -pair[1].tokens, -pair[1].seconds, pair[0])))


def count_landed_lines(facts: RunFacts) -> Mapping[str, int]:
    """The lines that each landed node added and removed, task files apart, by id."""
    landed = (one for one in facts.commits if one.is_ours and one.subject.startswith(LANDED))
    return {one.trailers["Task"]: sum(one.lines.values()) for one in landed}


def compare_estimates(
    facts: RunFacts, timelines: Mapping[str, Timeline], spending: Spending, troubled: frozenset[str]
) -> tuple[Estimate, ...]:
    """Compare scope and risk of the landed nodes with what they took; `troubled` did not land at once."""
    landed = [facts.tasks[node] for node, one in timelines.items() if one.outcome.is_landed and node in facts.tasks]
    own = {task.id: timelines[task.id].seconds(Cause.WORK, Cause.VERIFY) for task in landed}
    effort, whole = sum(task.cost for task in landed), sum(own.values())

    def compare(key: str, value: str, tasks: Sequence[Task]) -> Estimate:
        seconds = [own[task.id] for task in tasks]
        at_once = sum(task.id not in troubled for task in tasks) / len(tasks)
        is_scope = key == "scope"
        expected = sum(task.cost for task in tasks) / effort if is_scope else SUCCESS.get(value)
        actual = (sum(seconds) / whole if whole else 0.0) if is_scope else at_once
        tokens = sum(spending.by_node[task.id].tokens for task in tasks if task.id in spending.by_node)
        return Estimate(key, value, len(tasks), sum(seconds), median(seconds), tokens, expected, actual)

    groups: dict[tuple[str, str], list[Task]] = {}
    for task in sorted(landed, key=lambda task: task.cost):
        groups.setdefault(("scope", str(task.scope or UNNAMED)), []).append(task)
    for task in sorted(landed, key=lambda task: list(SUCCESS).index(task.risk) if task.risk else len(SUCCESS)):
        groups.setdefault(("risk", str(task.risk or UNNAMED)), []).append(task)
    return tuple(compare(key, value, tasks) for (key, value), tasks in groups.items())
