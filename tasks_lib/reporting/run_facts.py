"""The facts that an after-action report is made of, as values: a journal's entries, commits, and the task files."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tasks_lib.model import Task
from tasks_lib.reporting.journal_events import JournalEvent

SHORT = 10


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a line of the report comes from.

    `kind` is `commit`, `event`, `file`, `task` or `run`. `ref` is the commit's id, the event's name, a path, or an id;
    an event also has its `node` ("" for the run) and its time `at`, ISO 8601.
    """

    kind: str
    ref: str
    node: str = ""
    at: str = ""

    def __str__(self) -> str:
        if self.kind == "event":
            about = f" of {self.node}" if self.node else ""
            return f"{self.ref}{about} at {self.at[11:23]}"
        return f"{self.kind} {self.ref[:SHORT]}" if self.kind in ("commit", "run") else self.ref

    def cite(self) -> str:
        """The same for somebody who does not have the report before them: with the date, and what it is."""
        if self.kind == "event":
            return f"{self} on {self.at[:10]} (UTC)"
        return f"task {self.ref}" if self.kind == "task" else str(self)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a journal. `at` is in seconds since the epoch; `clock` is the same without the time between runs."""

    event: JournalEvent
    node: str
    at: float
    clock: float
    facts: Mapping[str, object] = field(default_factory=dict[str, object])

    def text(self, name: str) -> str:
        """The fact `name` as text, "" if there is none."""
        value = self.facts.get(name, "")
        return value if isinstance(value, str) else str(value)

    def number(self, name: str) -> float:
        """The fact `name` as a number, 0 if there is none."""
        value = self.facts.get(name, 0)
        return float(value) if isinstance(value, int | float) else 0.0

    def words(self, name: str) -> tuple[str, ...]:
        """The fact `name` as a list of texts, empty if there is none."""
        value = self.facts.get(name, ())
        return tuple(str(one) for one in value) if isinstance(value, list | tuple) else ()  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]

    @property
    def evidence(self) -> Evidence:
        return Evidence("event", str(self.event), self.node, write_time(self.at))


@dataclass(frozen=True, slots=True)
class RunCommit:
    """A commit of the target's first-parent history; `at` is its committer date in seconds since the epoch.

    `lines` counts the lines added and removed by path, compared with the first parent, without task files.
    """

    id: str
    at: float
    author: str
    subject: str
    trailers: Mapping[str, str] = field(default_factory=dict[str, str])
    lines: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def is_ours(self) -> bool:
        return bool(self.trailers.get("Task"))

    @property
    def evidence(self) -> Evidence:
        return Evidence("commit", self.id)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of the run, or the runs, that a report is about.

    `entries` are in order of time, `commits` those of these runs on the head, oldest first, and `later` those made
    after them, which say how it continued. `tasks` are those at the head, by id. `periods` are the begin and end of
    each run on the `clock` of the entries. `missing` says what could not be found, a sentence each.
    """

    runs: tuple[str, ...]
    entries: tuple[Entry, ...] = ()
    commits: tuple[RunCommit, ...] = ()
    tasks: Mapping[str, Task] = field(default_factory=dict[str, Task])
    sessions: int = 0
    periods: tuple[tuple[float, float], ...] = ()
    missing: tuple[str, ...] = ()
    later: tuple[RunCommit, ...] = ()

    def of(self, *events: JournalEvent) -> Iterator[Entry]:
        """The entries of these events."""
        return (entry for entry in self.entries if entry.event in events)


def write_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def parse_journal(text: str) -> tuple[list[Entry], int]:
    """The entries of a journal in the order of their times, and how many of its lines cannot be read.

    A kill can cut off a line; empty lines are not counted.
    """
    entries: list[Entry] = []
    unread = 0
    for line in text.splitlines():
        if not line.strip():
            continue
        entry = _parse_line(line)
        unread += entry is None
        entries += [entry] if entry else []
    return sorted(entries, key=lambda entry: entry.at), unread


def _parse_line(line: str) -> Entry | None:
    try:
        facts: dict[str, object] = json.loads(line)
        event = JournalEvent(str(facts.pop("event")))
        at = datetime.fromisoformat(str(facts.pop("at"))).timestamp()
        return Entry(event, str(facts.pop("node", "")), at, at, facts)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def join_periods(entries: Sequence[Entry]) -> tuple[tuple[Entry, ...], tuple[tuple[float, float], ...]]:
    """Set the clock of `entries` so that a run begins where the one before ended; return them, and each run's period.

    A run begins with its entry `BEGUN`, and ends with the last entry before the next one.
    """
    joined: list[Entry] = []
    periods: list[tuple[float, float]] = []
    gap = 0.0
    for entry in entries:
        if entry.event is JournalEvent.BEGUN or not joined:
            gap = entry.at - (joined[-1].clock if joined else 0.0)
            periods.append((entry.at - gap, entry.at - gap))
        joined.append(Entry(entry.event, entry.node, entry.at, entry.at - gap, entry.facts))
        periods[-1] = (periods[-1][0], max(periods[-1][1], joined[-1].clock))
    return tuple(joined), tuple(periods)


def select(entries: Iterable[Entry], is_wanted: Callable[[str], bool]) -> list[Entry]:
    """The entries about the run, and about the nodes whose id `is_wanted`."""
    return [entry for entry in entries if not entry.node or is_wanted(entry.node)]
