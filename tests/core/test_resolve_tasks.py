"""Which resolve task a person completes, and what they are told if there is not exactly one."""

from collections.abc import Mapping

import pytest

from tasks_lib.errors import InputError
from tasks_lib.graph.resolve_tasks import find_resolve_task, list_waiting
from tasks_lib.model import HUMAN, Status, Task


def make(*tasks: Task) -> Mapping[str, Task]:
    return {task.id: task for task in tasks}


def node(task_id: str, *depends_on: str, status: Status = Status.BLOCKED) -> Task:
    return Task(task_id, f"Do {task_id}", f"tasks/{task_id}.md", status=status, depends_on=depends_on)


def resolve(task_id: str, *, status: Status = Status.PENDING, assignee: str = HUMAN) -> Task:
    return Task(task_id, "Resolve it", f"tasks/{task_id}.md", status=status, assignee=assignee)


def fail(tasks: Mapping[str, Task], name: str) -> str:
    with pytest.raises(InputError) as raised:
        find_resolve_task(tasks, name)
    return str(raised.value)


BLOCKED = make(node("pay", "cart", "resolve-pay-1"), node("cart", status=Status.COMPLETED), resolve("resolve-pay-1"))


@pytest.mark.parametrize("name", ["pay", "resolve-pay-1"])
def test_open_resolve_task_is_found_by_the_node_and_by_its_own_id(name: str) -> None:
    assert find_resolve_task(BLOCKED, name).id == "resolve-pay-1"
    assert list_waiting(BLOCKED, "resolve-pay-1") == ("pay",)


def test_earlier_resolve_task_that_is_completed_is_passed_over() -> None:
    tasks = make(
        node("pay", "resolve-pay-1", "resolve-pay-2"),
        resolve("resolve-pay-1", status=Status.COMPLETED),
        resolve("resolve-pay-2"),
    )
    assert find_resolve_task(tasks, "pay").id == "resolve-pay-2"


def test_resolve_task_that_was_given_to_an_agent_or_is_blocked_itself_may_be_completed_by_a_person() -> None:
    tasks = make(node("pay", "resolve-pay-1"), resolve("resolve-pay-1", status=Status.BLOCKED, assignee=""))
    assert find_resolve_task(tasks, "pay").id == "resolve-pay-1"
    assert find_resolve_task(tasks, "resolve-pay-1").id == "resolve-pay-1"


def test_unknown_id_is_answered_with_the_nearest_or_with_the_blocked_ones() -> None:
    assert fail(BLOCKED, "pya") == '"pya" is not a task. Did you mean "pay"?'
    assert fail(BLOCKED, "zzz") == '"zzz" is not a task; blocked nodes: pay'
    assert fail(make(node("a", status=Status.PENDING)), "zzz") == '"zzz" is not a task; no node is blocked'


def test_several_open_resolve_tasks_are_named() -> None:
    tasks = make(node("pay", "resolve-a", "resolve-b"), resolve("resolve-a"), resolve("resolve-b"))
    said = fail(tasks, "pay")
    assert said.startswith("pay has several open resolve files; name the one that is resolved: ")
    assert "resolve-a (tasks/resolve-a.md), resolve-b (tasks/resolve-b.md)" in said


def test_node_that_is_not_blocked_is_said_with_its_status() -> None:
    tasks = make(node("pay", status=Status.PENDING), node("cart", status=Status.COMPLETED))
    assert "tasks/pay.md: pay is not blocked, its status is pending" in fail(tasks, "pay")
    assert "cart is completed, so there is nothing to resolve" in fail(tasks, "cart")


def test_node_that_was_blocked_by_hand_says_how_to_go_on() -> None:
    assert "set `status: pending` here and commit that" in fail(make(node("pay")), "pay")


@pytest.mark.parametrize("name", ["pay", "resolve-pay-1"])
def test_resolve_task_that_is_completed_already_is_said(name: str) -> None:
    tasks = make(node("pay", "resolve-pay-1"), resolve("resolve-pay-1", status=Status.COMPLETED))
    said = fail(tasks, name)
    assert "is already completed" in said
    assert "start a run if none is in progress" in said


def test_work_for_an_agent_that_is_called_like_a_resolve_task_is_not_completed() -> None:
    tasks = make(
        node("resolve-conflicts", status=Status.PENDING), node("ship", "resolve-conflicts", status=Status.PENDING)
    )
    assert "resolve-conflicts is not blocked" in fail(tasks, "resolve-conflicts")
    assert "ship is not blocked" in fail(tasks, "ship")


def test_node_that_was_reset_by_hand_but_still_waits_for_a_person_can_be_resolved() -> None:
    tasks = make(node("pay", "resolve-pay-1", status=Status.PENDING), resolve("resolve-pay-1"))
    assert find_resolve_task(tasks, "pay").id == "resolve-pay-1"
