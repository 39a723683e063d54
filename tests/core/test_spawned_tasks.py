"""Which tasks belong to a session that spawned them, and what bounds it."""

import pytest

from tasks_lib.graph.run_plan import Plan
from tasks_lib.graph.spawned_tasks import (
    SpawnLimits,
    find_known_task_faults,
    find_limit_faults,
    list_spawned,
    list_spawners,
)
from tasks_lib.graph.task_graph import build_graph
from tasks_lib.model import Aborted, Blocked, Status, Task
from tasks_lib.taskfile.parsing import parse_task, set_spawner

ALL = SpawnLimits(is_enabled=True, depth=2, tasks=3)


def make(*pairs: tuple[str, str], **more: Task) -> dict[str, Task]:
    """Tasks by (id, spawner)."""
    return {one: Task(one, one, f"tasks/{one}.md", spawned_by=spawner) for one, spawner in pairs} | more


FAMILY = make(("lead", ""), ("a", "lead"), ("b", "lead"), ("a-part", "a"), ("other", ""))


def test_tasks_below_and_above_are_found_over_generations() -> None:
    assert list_spawned(FAMILY, "lead") == ("a", "a-part", "b")
    assert list_spawners(FAMILY, "a-part") == ("a", "lead")
    assert list_spawned(FAMILY, "other") == list_spawners(FAMILY, "lead") == ()


def test_circle_that_a_person_wrote_and_a_spawner_that_is_gone_end_the_search() -> None:
    circle = make(("a", "b"), ("b", "a"), ("c", "c"), ("d", "gone"))
    assert list_spawners(circle, "a") == ("b",)
    assert list_spawners(circle, "c") == list_spawners(circle, "d") == ()
    assert list_spawned(circle, "a") == ("b",)


@pytest.mark.parametrize(
    ("spawner", "limits", "said"),
    [
        ("lead", SpawnLimits(), "`spawn.enabled: true`"),
        ("a-part", ALL, "a-part was itself spawned 2 deep; spawn.max_depth is 2"),
        ("b", ALL, "lead and the tasks below it have spawned 3 tasks; spawn.max_tasks is 3"),
        ("gone", ALL, '"gone"'),
    ],
)
def test_limit_is_named_with_its_key(spawner: str, limits: SpawnLimits, said: str) -> None:
    assert said in " ".join(find_limit_faults(FAMILY, spawner, limits))
    assert list(find_limit_faults(FAMILY, "other", ALL)) == []


@pytest.mark.parametrize(
    ("task_id", "spawner", "said"),
    [
        ("leed", "", "Did you mean"),
        ("done", "", "is completed"),
        ("mine", "lead", "for a person"),
        ("lead", "lead", "cannot spawn lead"),
        ("lead", "a", "cannot spawn lead"),
        ("a", "other", "was spawned by lead"),
    ],
)
def test_existing_task_that_cannot_be_spawned_says_why(task_id: str, spawner: str, said: str) -> None:
    done = Task("done", "done", "tasks/done.md", status=Status.COMPLETED)
    mine = Task("mine", "mine", "tasks/mine.md", assignee="human")
    tasks = {**FAMILY, "done": done, "mine": mine}
    assert said in " ".join(map(str, find_known_task_faults(tasks, task_id, spawner)))
    assert list(find_known_task_faults(tasks, "other", "a")) == []


def test_run_of_one_node_includes_what_it_spawned_and_nothing_else() -> None:
    plan = Plan(build_graph(make(("lead", ""), ("other", "")).values()), ["lead"])
    plan.start("lead")
    plan.update(build_graph(FAMILY.values()))
    assert plan.ready() == ("a", "a-part", "b")
    assert plan.only == {"lead", "a", "b", "a-part"}


def test_nothing_that_an_aborted_node_spawned_starts_in_its_run() -> None:
    plan = Plan(build_graph(FAMILY.values()))
    plan.start("lead")
    plan.start("b")
    plan.finish("lead", Aborted("somebody asked"))
    assert plan.ready() == ("other",)
    assert plan.waits()["a-part"] == "was spawned by lead, which was aborted in this run"
    assert "lead" in plan.skips()["a"]
    assert plan.running == {"b"}


def test_node_that_ends_in_another_way_lets_what_it_spawned_start() -> None:
    plan = Plan(build_graph(FAMILY.values()))
    plan.start("lead")
    plan.finish("lead", Blocked("a question"))
    assert set(plan.ready()) == {"a", "b", "a-part", "other"}


@pytest.mark.parametrize("spawner", ["lead", "12", "a/b", "true", "x"])
def test_spawner_is_written_so_that_it_is_read_again(spawner: str) -> None:
    text = set_spawner("---\nid: a\nname: A\nstatus: pending\n---\nBody.\n", spawner)
    task, faults = parse_task(text.encode(), "tasks/a.md")
    assert faults == ()
    assert task
    assert task.spawned_by == spawner
    assert text.endswith("---\nBody.\n")


def test_spawner_that_is_no_id_is_a_fault_with_its_line() -> None:
    task, (fault,) = parse_task(b"---\nid: a\nname: A\nspawned_by: ..\n---\n", "tasks/a.md")
    assert (task, fault.line) == (None, 4)
