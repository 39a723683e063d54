"""Forecasts of a run: times for a number of sessions, in the plan's order, and never below the lower bound."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_lib.graph.forecast import ForecastRow, Policy, find_bound, forecast_table, simulate
from tasks_lib.graph.run_plan import Plan
from tasks_lib.graph.task_graph import Graph, build_graph
from tasks_lib.model import Merged, Scope, Status, Task


def make(task_id: str, *depends_on: str, cost: int = 2, status: str = "pending", human: bool = False) -> Task:
    return Task(
        task_id,
        task_id,
        task_id,
        status=Status(status),
        depends_on=depends_on,
        scope=list(Scope)[cost - 1],
        assignee="human" if human else None,
    )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    choice = draw(st.randoms(use_true_random=False))
    names = [f"n{number:02}" for number in range(choice.randint(0, 14))]
    return build_graph(
        make(
            name,
            *choice.sample(names[:index], choice.randint(0, min(3, index))),
            cost=choice.randint(1, 5),
            status=choice.choice(["pending", "pending", "completed", "blocked"]),
        )
        for index, name in enumerate(names)
    )


def count_at(starts: dict[str, float], finishes: dict[str, float], now: float) -> int:
    return sum(starts[i] <= now < finishes[i] for i in starts)


def test_forecast_of_a_small_graph_matches_a_manual_calculation() -> None:
    graph = build_graph([make("a", cost=1), make("b", cost=3), make("c", "a", cost=4), make("d", "a", "b", cost=1)])
    forecast = simulate(graph, 2)
    assert forecast.starts == {"a": 0, "b": 0, "c": 1, "d": 3}
    assert forecast.finishes == {"a": 1, "b": 3, "c": 5, "d": 4}
    assert forecast.makespan == 5
    assert simulate(graph, 1).makespan == 9


def test_priority_starts_the_long_path_that_fifo_leaves_for_last() -> None:
    graph = build_graph([make("a1"), make("a2"), make("z"), make("z1", "z", cost=5)])
    assert simulate(graph, 2).makespan == 7
    assert simulate(graph, 2, policy="fifo").makespan == 9


def test_fifo_keeps_the_order_in_which_nodes_became_ready() -> None:
    graph = build_graph([make("q", cost=1), make("p", cost=2), make("b", "q"), make("a", "p")])
    starts = simulate(graph, 2, {"q": 1, "p": 1.5}, "fifo").starts
    assert starts == {"p": 0, "q": 0, "b": 1, "a": 1.5}


def test_durations_replace_costs_where_they_are_given() -> None:
    graph = build_graph([make("a"), make("b", "a")])
    assert simulate(graph, 1, {"a": 0.5}).finishes == {"a": 0.5, "b": 2.5}


def test_completed_nodes_take_no_time_and_people_take_no_session() -> None:
    graph = build_graph(
        [make("done", status="completed"), make("sign", "done", human=True), make("a", "done"), make("b", "sign")]
    )
    assert simulate(graph, 1).starts == {"sign": 0, "a": 0, "b": 2}
    assert find_bound(graph, 1) == 4


def test_nothing_open_ends_at_once() -> None:
    assert simulate(build_graph([make("a", status="completed")]), 4).makespan == 0
    assert find_bound(build_graph([]), 4) == 0


def test_no_sessions_are_refused() -> None:
    with pytest.raises(ValueError, match="max_sessions is 0"):
        simulate(build_graph([]), 0)


def test_table_has_a_row_per_number_of_sessions() -> None:
    graph = build_graph([make(name) for name in "abcd"])
    assert forecast_table(graph, (1, 3, 8)) == (ForecastRow(1, 8, 8), ForecastRow(3, 4, 8 / 3), ForecastRow(8, 2, 2))


@given(graphs(), st.integers(1, 5), st.sampled_from(["priority", "fifo"]))
def test_schedule_is_feasible_and_never_under_the_bound(graph: Graph, sessions: int, policy: Policy) -> None:
    forecast = simulate(graph, sessions, policy=policy)
    starts, finishes = dict(forecast.starts), dict(forecast.finishes)
    assert starts.keys() == finishes.keys() == {i for i, task in graph.tasks.items() if not task.is_completed}
    for task_id, start in starts.items():
        assert finishes[task_id] == start + graph.tasks[task_id].cost
        assert all(finishes.get(i, 0) <= start for i in graph.prerequisites(task_id))
        assert count_at(starts, finishes, start) <= sessions
    bound = find_bound(graph, sessions)
    assert bound == max(max(graph.remaining().values(), default=0), sum(graph.tasks[i].cost for i in starts) / sessions)
    assert bound <= forecast.makespan <= 2 * bound


@settings(deadline=None)
@given(graphs(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_forecast_matches_the_order_of_the_plan(graph: Graph, sessions: int, choice: Random) -> None:
    # A forecast assumes that blocked nodes get unblocked; the plan never starts such a node by itself.
    graph = build_graph(
        task if task.is_completed else replace(task, status=Status.PENDING) for task in graph.tasks.values()
    )
    durations = {task_id: choice.random() + 0.1 for task_id in graph.tasks}
    plan, starts, ends, now = Plan(graph), dict[str, float](), dict[str, float](), 0.0
    while plan.running or plan.ready():
        for task_id in plan.ready()[: sessions - len(plan.running)]:
            plan.start(task_id)
            starts[task_id], ends[task_id] = now, now + durations[task_id]
        now = min(ends[task_id] for task_id in plan.running)
        for task_id in sorted(i for i in plan.running if ends[i] == now):
            plan.finish(task_id, Merged("c"))
            done = replace(plan.graph.tasks[task_id], status=Status.COMPLETED)
            plan.update(build_graph({**plan.graph.tasks, task_id: done}.values()))
    assert simulate(graph, sessions, durations).starts == starts
