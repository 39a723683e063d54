"""Forecasts how long a run takes with a given number of sessions, by simulating it."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks_lib.graph.run_plan import rank
from tasks_lib.graph.task_graph import Graph

Policy = Literal["priority", "fifo"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """When each node starts and finishes, from 0 on, in the unit of the durations; `makespan` is the last finish."""

    makespan: float
    starts: Mapping[str, float]
    finishes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ForecastRow:
    """The expected `makespan` with `max_sessions`, and the lower `bound` for any order of the nodes.

    Both are in units of effort (`Task.cost`: a `single` task is 1).
    """

    max_sessions: int
    makespan: float
    bound: float


def simulate(
    graph: Graph, max_sessions: int, durations: Mapping[str, float] | None = None, policy: Policy = "priority"
) -> Forecast:
    """Simulate running the open nodes of `graph` with `max_sessions`, each succeeding at its first attempt.

    `durations` replaces `Task.cost` for the ids it contains. `priority` starts nodes in the order of `Plan`, `fifo` in
    the order in which they become ready, ties by id. A node for a person starts as soon as it is ready and takes no
    session. Raises ValueError when `max_sessions` is below 1.
    """
    if max_sessions < 1:
        raise ValueError(f"max_sessions is {max_sessions}; at least 1 is needed to run anything")
    return _Simulation(graph, max_sessions, _fill_durations(graph, durations), policy).play()


def find_bound(graph: Graph, max_sessions: int, durations: Mapping[str, float] | None = None) -> float:
    """A lower bound for any schedule: the critical path, or the work of all sessions divided by their number."""
    lengths = _fill_durations(graph, durations)
    finishes: dict[str, float] = {}
    for task_id in (i for i in graph.order() if i in lengths):
        before = (finishes[i] for i in graph.prerequisites(task_id) if i in lengths)
        finishes[task_id] = max(before, default=0.0) + lengths[task_id]
    work = sum(length for task_id, length in lengths.items() if not graph.tasks[task_id].is_human)
    return max(max(finishes.values(), default=0.0), work / max_sessions)


def forecast_table(graph: Graph, sessions: Sequence[int]) -> tuple[ForecastRow, ...]:
    """One row for each number in `sessions`, in that order, with the cost of each task as its duration."""
    return tuple(ForecastRow(count, simulate(graph, count).makespan, find_bound(graph, count)) for count in sessions)


def _fill_durations(graph: Graph, durations: Mapping[str, float] | None) -> dict[str, float]:
    """The duration of each open node."""
    given = durations or {}
    return {i: given.get(i, float(task.cost)) for i, task in graph.tasks.items() if not task.is_completed}


class _Simulation:
    """One simulated run, in which time jumps from one finish to the next."""

    def __init__(self, graph: Graph, max_sessions: int, durations: Mapping[str, float], policy: Policy) -> None:
        self._graph: Graph = graph
        self._durations: Mapping[str, float] = durations
        self._free: int = max_sessions
        self._ranks: Mapping[str, tuple[int, int, str]] | None = rank(graph) if policy == "priority" else None
        self._open: dict[str, int] = {i: sum(p in durations for p in graph.prerequisites(i)) for i in durations}
        self._ready: list[tuple[tuple[int, int, str], str]] = []
        self._running: list[tuple[float, str]] = []
        self._starts: dict[str, float] = {}
        self._finishes: dict[str, float] = {}
        self._arrivals: int = 0

    def play(self) -> Forecast:
        now = 0.0
        self._admit([i for i in self._graph.tasks if self._open.get(i) == 0], now)
        while self._running or self._ready:
            while self._ready and self._free:
                self._free -= 1
                self._start(heapq.heappop(self._ready)[1], now)
            now = self._running[0][0]
            self._admit(sorted(self._finish_all(now)), now)
        return Forecast(now, self._starts, self._finishes)

    def _admit(self, task_ids: Sequence[str], now: float) -> None:
        for task_id in task_ids:
            if self._graph.tasks[task_id].is_human:
                self._start(task_id, now)
            else:
                self._arrivals += 1
                key = self._ranks[task_id] if self._ranks else (self._arrivals, 0, task_id)
                heapq.heappush(self._ready, (key, task_id))

    def _start(self, task_id: str, now: float) -> None:
        self._starts[task_id] = now
        heapq.heappush(self._running, (now + self._durations[task_id], task_id))

    def _finish_all(self, now: float) -> list[str]:
        """Finish the nodes that end at `now`; return the nodes that become ready."""
        found: list[str] = []
        while self._running and self._running[0][0] <= now:
            _, task_id = heapq.heappop(self._running)
            self._finishes[task_id] = now
            self._free += not self._graph.tasks[task_id].is_human
            for dependent in self._graph.dependents(task_id):
                if dependent in self._open:
                    self._open[dependent] -= 1
                    if self._open[dependent] == 0:
                        found.append(dependent)
        return found
