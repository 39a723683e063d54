"""What a person is told to do once a run has ended."""

from collections.abc import Collection, Mapping

from tasks_lib.graph.run_plan import Plan
from tasks_lib.graph.task_graph import build_graph
from tasks_lib.model import OutcomeName, Status, Task
from tasks_lib.reporting.next_steps import MOST, NextStep, list_next_steps


def make_task(task_id: str, *above: str, status: Status = Status.PENDING, assignee: str | None = None) -> Task:
    return Task(task_id, task_id, f"tasks/{task_id}.md", status=status, depends_on=above, assignee=assignee)


def list_steps(
    *tasks: Task,
    ends: Mapping[str, OutcomeName] | None = None,
    taken: Collection[str] = (),
    is_pending: bool = False,
) -> list[NextStep]:
    return list_next_steps(Plan(build_graph(tasks)), ends or {}, taken, is_pending=is_pending)


def test_nothing_is_to_be_done_if_running_again_is_all() -> None:
    assert list_steps(make_task("a", status=Status.COMPLETED)) == []
    assert list_steps(make_task("a"), ends={"a": OutcomeName.INTERRUPTED}) == []


def test_each_end_has_its_command_and_the_run_comes_last() -> None:
    person = make_task("e", assignee="human")
    tasks = [make_task("a"), make_task("b"), make_task("c"), make_task("d", "a"), person]
    ends = {"a": OutcomeName.FAILED, "b": OutcomeName.BLOCKED, "c": OutcomeName.WAITING}
    steps = list_steps(*tasks, ends=ends)
    assert [step.command for step in steps] == ['resolve b "YOUR ANSWER"', "logs a", "land c", "take e", "run"]
    assert [step.command for step in list_steps(*tasks, taken=["e"])] == ["land e", "run"]


def test_head_decides_what_has_landed_and_what_is_blocked() -> None:
    landed = make_task("a", status=Status.COMPLETED)
    assert list_steps(landed, ends={"a": OutcomeName.BLOCKED}) == []
    resolve = make_task("resolve-b", assignee="human")
    blocked = make_task("b", "resolve-b", status=Status.BLOCKED)
    assert [step.command for step in list_steps(blocked, resolve)] == ['resolve b "YOUR ANSWER"', "run"]


def test_task_of_a_person_is_not_offered_before_it_can_begin() -> None:
    assert list_steps(make_task("a"), make_task("b", "a", assignee="human")) == []


def test_verified_work_that_waits_is_published_by_a_run() -> None:
    steps = list_steps(make_task("a", status=Status.COMPLETED), is_pending=True)
    assert steps == [NextStep("run", "publishes what is verified, and continues")]


def test_many_nodes_of_one_kind_do_not_fill_the_screen() -> None:
    tasks = [make_task(f"n{number}") for number in range(MOST + 4)]
    steps = list_steps(*tasks, ends={task.id: OutcomeName.FAILED for task in tasks})
    assert [step.command for step in steps] == ["logs n0", "logs n1", "logs n2", "", "run"]
    assert steps[MOST].purpose == "and 4 more"
