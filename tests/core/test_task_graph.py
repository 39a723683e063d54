"""Graphs of task files: all faults at once, each with its place, and questions about the shape."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.errors import InputError
from tasks_lib.graph.task_graph import Graph, build_graph, check_graph
from tasks_lib.model import Scope, Status, Task
from tasks_lib.suggestions import find_nearest


def make(task_id: str, *depends_on: str, cost: int = 2, status: Status = Status.PENDING) -> Task:
    return Task(
        id=task_id,
        name=task_id.title(),
        path=f"tasks/{task_id}.md",
        status=status,
        depends_on=depends_on,
        scope=list(Scope)[cost - 1],
        lines={"id": 2, "depends_on": 4},
        dependency_lines={name: 5 + position for position, name in enumerate(depends_on)},
    )


def diamond(**status: Status) -> Graph:
    tasks = [make("d", "c", "b"), make("b", "a", cost=5), make("c", "a"), make("a", cost=1)]
    return build_graph([make(t.id, *t.depends_on, cost=t.cost, status=status.get(t.id, t.status)) for t in tasks])


@st.composite
def task_lists(draw: st.DrawFn) -> list[Task]:
    count = draw(st.integers(1, 12))
    names = draw(st.permutations([f"n{number:02}" for number in range(count)]))
    tasks: list[Task] = []
    for index, name in enumerate(names):
        above = draw(st.sets(st.sampled_from(names[:index]), max_size=3)) if index else set[str]()
        status = draw(st.sampled_from([Status.PENDING, Status.COMPLETED]))
        tasks.append(make(name, *sorted(above), cost=draw(st.integers(1, 5)), status=status))
    return draw(st.permutations(tasks))


def test_unknown_dependency_is_named_with_its_line_and_the_nearest_id() -> None:
    tasks = [
        make("db-schema"),
        Task("api", "API", "tasks/api.md", depends_on=("db-schma",), dependency_lines={"db-schma": 4}),
    ]
    assert [str(fault) for fault in check_graph(tasks)] == [
        'tasks/api.md:4: depends_on names "db-schma", which no task file has. Did you mean "db-schema"?'
    ]


def test_unknown_dependency_without_a_close_match_says_what_to_do() -> None:
    assert str(check_graph([make("a", "quite-other")])[0]).endswith(
        "which no task file has. Remove it, or add that task file."
    )


def test_dependency_without_a_line_of_its_own_is_placed_at_the_key() -> None:
    camel = Task("a", "A", "tasks/a.md", depends_on=("b",), lines={"dependsOn": 7})
    assert [fault.line for fault in check_graph([camel])] == [7]


def test_all_faults_are_named_at_once() -> None:
    tasks = [make("a", "b", "nowhere"), make("b", "a"), make("c", "c"), Task("c", "C", "tasks/c2.md", lines={"id": 3})]
    assert [str(fault) for fault in check_graph(tasks)] == [
        "tasks/a.md:5: depends_on closes the cycle a -> b -> a, so none of these can ever start. Remove one dependency.",
        'tasks/a.md:6: depends_on names "nowhere", which no task file has. Remove it, or add that task file.',
        'tasks/c.md:2: id "c" is also used in tasks/c2.md. Give each file a unique id.',
        "tasks/c.md:5: depends_on closes the cycle c -> c, so none of these can ever start. Remove one dependency.",
        'tasks/c2.md:3: id "c" is also used in tasks/c.md. Give each file a unique id.',
    ]


def test_id_of_three_files_names_the_two_others_in_each() -> None:
    faults = check_graph([Task("x", "X", f"tasks/{number}.md") for number in range(3)])
    assert [(fault.path, fault.message.partition(" is also used in ")[2]) for fault in faults] == [
        ("tasks/0.md", "tasks/1.md and tasks/2.md. Give each file a unique id."),
        ("tasks/1.md", "tasks/0.md and tasks/2.md. Give each file a unique id."),
        ("tasks/2.md", "tasks/0.md and tasks/1.md. Give each file a unique id."),
    ]


def test_each_of_several_cycles_is_named_along_its_edges() -> None:
    tasks = [make("a", "c"), make("b", "a"), make("c", "b"), make("y", "x"), make("x", "y"), make("z", "a")]
    assert [fault.message.split("cycle ")[1].split(",")[0] for fault in check_graph(tasks)] == [
        "a -> b -> c -> a",
        "x -> y -> x",
    ]


def test_huge_number_of_cycles_is_reported_in_few_faults() -> None:
    names = [f"k{number}" for number in range(30)]
    faults = check_graph([make(name, *(other for other in names if other != name)) for name in names])
    assert len(faults) == 11
    assert any(
        "30 task files depend on each other in more than the 10 cycles listed" in fault.message for fault in faults
    )


def test_ids_that_differ_only_by_case_cause_a_warning_only() -> None:
    tasks = [make("API"), make("api", "API")]
    (fault,) = check_graph(tasks)
    assert (
        str(fault)
        == 'tasks/api.md:2: warning: id "api" differs from "API" (tasks/API.md) only by case. Rename one of them.'
    )
    assert build_graph(tasks).order() == ("API", "api")


@pytest.mark.parametrize(
    "tasks",
    [
        [make("a", "b")],
        [make("a"), make("a")],
        [make("a", "b"), make("b", "a")],
        [make("a", "a")],
        [make("a", "b", "b")],
    ],
)
def test_broken_tasks_raise_every_error_and_no_warning(tasks: list[Task]) -> None:
    twins = [make("twin"), make("TWIN")]
    with pytest.raises(InputError) as caught:
        build_graph([*tasks, *twins])
    assert caught.value.faults == check_graph(tasks)


def test_no_tasks_make_an_empty_graph() -> None:
    graph = build_graph([])
    assert (graph.order(), graph.generations(), graph.critical_path(), dict(graph.remaining())) == ((), (), (), {})


def test_neighbours_keep_their_order_and_count_once() -> None:
    graph = build_graph([make("b"), make("a"), make("z", "b", "a", "b"), make("c", "b")])
    assert graph.prerequisites("z") == ("b", "a")
    assert graph.dependents("b") == ("c", "z")
    assert graph.dependents("z") == ()


def test_shape_of_a_diamond() -> None:
    graph = diamond()
    assert graph.order() == ("a", "b", "c", "d")
    assert graph.generations() == (("a",), ("b", "c"), ("d",))
    assert graph.ancestors("d") == {"a", "b", "c"}
    assert graph.descendants("b") == {"d"}
    assert graph.remaining() == {"a": 8, "b": 7, "c": 4, "d": 2}
    assert graph.critical_path() == ("a", "b", "d")


def test_unknown_id_is_a_key_error() -> None:
    for ask in (diamond().ancestors, diamond().descendants, diamond().dependents, diamond().prerequisites):
        with pytest.raises(KeyError):
            ask("nobody")


def test_completed_nodes_weigh_nothing_and_are_not_on_the_critical_path() -> None:
    graph = diamond(a=Status.COMPLETED, b=Status.COMPLETED)
    assert graph.remaining() == {"a": 4, "b": 2, "c": 4, "d": 2}
    assert graph.critical_path() == ("c", "d")


def test_paths_of_open_nodes_do_not_lead_through_completed_ones() -> None:
    graph = build_graph([make("a", cost=1), make("b", "a", status=Status.COMPLETED), make("c", "b", cost=5)])
    assert graph.remaining() == {"a": 1, "b": 5, "c": 5}
    assert graph.critical_path() == ("c",)


def test_weights_replace_costs_where_they_are_given() -> None:
    assert diamond().remaining({"c": 50}) == {"a": 53, "b": 7, "c": 52, "d": 2}


def test_graphs_of_equal_tasks_are_equal_whatever_the_order_of_files() -> None:
    tasks = [make("a"), make("b", "a")]
    assert build_graph(tasks) == build_graph(reversed(tasks))
    assert build_graph(tasks) != build_graph(tasks[:1])


def test_nearest_id_ignores_case_first() -> None:
    assert find_nearest("API", ["apis", "api"]) == "api"
    assert find_nearest("x", []) is None


def test_long_chain_of_ten_thousand_nodes_is_measured_and_checked() -> None:
    tasks = [make(f"n{i:05}", *([f"n{i - 1:05}"] if i else [])) for i in range(10_000)]
    graph = build_graph(tasks)
    assert graph.remaining()["n00000"] == 20_000
    assert len(graph.critical_path()) == len(graph.generations()) == 10_000
    assert len(check_graph([make("n00000", "n09999"), *tasks[1:]])) == 1


@given(task_lists())
def test_order_and_generations_put_prerequisites_first(tasks: list[Task]) -> None:
    graph = build_graph(tasks)
    place = {task_id: index for index, task_id in enumerate(graph.order())}
    depth = {task_id: index for index, group in enumerate(graph.generations()) for task_id in group}
    assert place.keys() == depth.keys() == graph.tasks.keys()
    for task in tasks:
        assert all(place[name] < place[task.id] and depth[name] < depth[task.id] for name in task.depends_on)
        assert depth[task.id] == max((depth[name] + 1 for name in task.depends_on), default=0)
    assert build_graph(sorted(tasks, key=lambda task: task.id)).order() == graph.order()


@given(task_lists())
def test_critical_path_is_a_path_as_heavy_as_the_longest_remaining(tasks: list[Task]) -> None:
    graph = build_graph(tasks)
    path = graph.critical_path()
    remaining = graph.remaining()
    assert all(before in graph.prerequisites(after) for before, after in pairwise(path))
    assert not any(graph.tasks[task_id].is_completed for task_id in path)
    heaviest = max((remaining[i] for i, task in graph.tasks.items() if not task.is_completed), default=0)
    assert sum(graph.tasks[task_id].cost for task_id in path) == heaviest


@given(task_lists())
def test_ancestors_and_descendants_mirror_each_other(tasks: list[Task]) -> None:
    graph = build_graph(tasks)
    for task in tasks:
        assert all(task.id in graph.ancestors(other) for other in graph.descendants(task.id))
        assert graph.ancestors(task.id) == set(task.depends_on).union(*map(graph.ancestors, task.depends_on))


@given(task_lists(), task_lists())
def test_graph_built_like_another_contains_its_own_tasks(tasks: list[Task], others: list[Task]) -> None:
    like, anew = build_graph(tasks, like=build_graph(others)), build_graph(tasks)
    assert (like.tasks, like.order(), like.generations()) == (anew.tasks, anew.order(), anew.generations())
    assert [like.dependents(i) for i in like.tasks] == [anew.dependents(i) for i in anew.tasks]
    assert like.remaining() == anew.remaining()


def test_landing_keeps_the_edges_but_a_new_dependency_does_not() -> None:
    before = diamond()
    landed = build_graph(diamond(a=Status.COMPLETED).tasks.values(), like=before)
    assert landed.shares_edges_with(before)
    assert landed.tasks["a"].is_completed
    added = build_graph([make("a", "x"), *(before.tasks[i] for i in "bcd"), make("x")], like=before)
    fewer = build_graph([make("c"), *(before.tasks[i] for i in "abd")], like=before)
    renamed = build_graph([make("e", "c", "b"), *(before.tasks[i] for i in "abc")], like=before)
    assert not renamed.shares_edges_with(before)
    assert not added.shares_edges_with(before)
    assert not fewer.shares_edges_with(before)
    assert fewer.dependents("a") == ("b",)


def test_faults_are_found_when_building_a_graph_like_another() -> None:
    before = diamond()
    for task in (make("a"), make("e", "none")):
        with pytest.raises(InputError):
            build_graph([*before.tasks.values(), task], like=before)
