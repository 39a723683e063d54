"""The run plan: which nodes start, in which order, and what the others wait for."""

from dataclasses import replace

import pytest

from tasks_lib.errors import InputError
from tasks_lib.graph.run_plan import Changes, Plan
from tasks_lib.graph.task_graph import Graph, build_graph
from tasks_lib.loop_limits import MAX_IN_A_ROW
from tasks_lib.model import Aborted, Blocked, Checked, Failed, Merged, Outcome, Scope, Skipped, Status, Task


def make(
    task_id: str, *depends_on: str, status: str = "pending", cost: int = 2, blob: str = "0", human: bool = False
) -> Task:
    return Task(
        id=task_id,
        name=task_id,
        path=f"tasks/{task_id}.md",
        blob=blob,
        status=Status(status),
        depends_on=depends_on,
        scope=list(Scope)[cost - 1],
        assignee="human" if human else None,
    )


def edit(graph: Graph, *tasks: Task, without: str = "", **statuses: str) -> Graph:
    """`graph` with some tasks replaced or added, and some statuses changed as a commit would: with a new blob."""
    merged = {**graph.tasks, **{task.id: task for task in tasks}}
    for task_id, status in statuses.items():
        old = merged[task_id]
        merged[task_id] = replace(old, status=Status(status), blob=f"{old.blob}+{status}")
    return build_graph(task for task in merged.values() if task.id != without)


def work(plan: Plan, task_id: str, outcome: Outcome | None = None) -> None:
    plan.start(task_id)
    plan.finish(task_id, outcome or Merged("c0ffee"))


def land(plan: Plan, task_id: str) -> None:
    work(plan, task_id)
    plan.update(edit(plan.graph, **{task_id: "completed"}))


def is_finished(plan: Plan) -> bool:
    """Whether no node is running and none can start until the graph changes."""
    return not (plan.running or plan.ready())


def chain() -> Graph:
    return build_graph([make("a"), make("b", "a"), make("c", "b"), make("x")])


def test_nothing_starts_before_its_prerequisites_are_completed_in_the_graph() -> None:
    plan = Plan(chain())
    assert plan.ready() == ("a", "x")
    work(plan, "a")
    assert plan.ready() == ("x",)
    assert plan.waits() == {
        "a": "has landed, but the head does not show it yet",
        "b": "waits for a",
        "c": "waits for b",
    }
    plan.update(edit(plan.graph, a="completed"))
    assert plan.ready() == ("b", "x")


def test_longest_remaining_path_is_first_then_most_dependents_then_the_smaller_id() -> None:
    tasks = [
        make("z", cost=1),
        make("z1", "z", cost=5),
        make("few"),
        make("f1", "few", cost=1),
        make("many"),
        make("alone", cost=3),
    ]
    plan = Plan(build_graph([*tasks, make("m1", "many", cost=1), make("m2", "many", cost=1), make("all", cost=3)]))
    assert plan.ready() == ("z", "many", "few", "all", "alone")
    assert [plan.priority(task_id) for task_id in plan.ready()] == [6, 3, 3, 3, 3]


def test_in_progress_without_a_run_counts_as_pending() -> None:
    assert Plan(build_graph([make("a", status="in-progress")])).ready() == ("a",)


def test_nodes_for_a_person_are_never_ready_and_are_reported() -> None:
    plan = Plan(build_graph([make("sign", human=True), make("ship", "sign"), make("a")]))
    assert plan.ready() == ("a",)
    assert plan.waits() == {"sign": "waits for a person (assignee: human)", "ship": "waits for sign"}
    assert plan.skips() == {"ship": "needs sign, which waits for a person"}
    assert plan.waiting_for_person() == ("sign",)
    plan.update(edit(plan.graph, sign="completed"))
    assert plan.waiting_for_person() == ()
    assert plan.ready() == ("a", "ship")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("failed", "status is failed; set it to pending to run it again"),
        ("blocked", "is blocked; set its status to pending to run it again"),
    ],
)
def test_failed_and_blocked_files_wait_for_a_person(status: str, reason: str) -> None:
    plan = Plan(build_graph([make("a", status=status), make("b", "a")]))
    assert is_finished(plan)
    assert plan.waits()["a"] == plan.skips()["a"] == reason
    cause = "is blocked" if status == "blocked" else "has status failed"
    assert plan.skips()["b"] == f"needs a, which {cause}"
    assert plan.waiting_for_person() == ()


def test_blocked_file_whose_resolve_task_is_completed_runs() -> None:
    tasks = [make("a", "resolve-a-1", status="blocked"), make("resolve-a-1", human=True)]
    plan = Plan(build_graph(tasks))
    assert plan.ready() == ()
    assert plan.waits()["a"] == "is blocked; waits for resolve-a-1"
    changes = plan.update(edit(plan.graph, **{"resolve-a-1": "completed"}))
    assert changes == Changes(completed=("resolve-a-1",), unblocked=("a",))
    assert plan.ready() == ("a",)


def test_blocked_file_with_one_of_two_resolve_tasks_open_stays_blocked() -> None:
    first = make("resolve-a-1", status="completed")
    plan = Plan(
        build_graph([make("a", "resolve-a-1", "resolve-a-2", status="blocked"), first, make("resolve-a-2", human=True)])
    )
    assert plan.waits()["a"] == "is blocked; waits for resolve-a-2"


@pytest.mark.parametrize("is_told_first", [True, False])
def test_blocked_node_runs_again_when_its_resolve_task_is_completed(is_told_first: bool) -> None:
    plan = Plan(chain())
    plan.start("a")
    blocked = edit(plan.graph, make("a", "resolve-a-1", status="blocked", blob="1"), make("resolve-a-1", human=True))
    if is_told_first:
        plan.finish("a", Blocked("no key", "resolve-a-1"))
        assert plan.waits()["a"] == "is blocked; waits for resolve-a-1"
        plan.update(blocked)
    else:
        plan.update(blocked)
        plan.finish("a", Blocked("no key", "resolve-a-1"))
    assert plan.ready() == ("x",)
    assert plan.waits()["a"] == "is blocked; waits for resolve-a-1"
    assert plan.update(edit(blocked, **{"resolve-a-1": "completed"})).unblocked == ("a",)
    assert plan.ready() == ("a", "x")


def test_resolve_task_that_was_completed_before_is_not_new() -> None:
    plan = Plan(build_graph([make("a", "resolve-a-1", status="blocked"), make("resolve-a-1", status="completed")]))
    work(plan, "a", Blocked("still no key"))
    plan.update(edit(plan.graph, make("other")))
    assert plan.ready() == ("other",)
    assert plan.waits()["a"] == "is blocked: still no key"


def test_resolve_task_that_arrives_completed_is_new() -> None:
    plan = Plan(chain())
    work(plan, "a", Blocked("no key", "resolve-a-1"))
    resolved = make("resolve-a-1", status="completed")
    assert plan.update(edit(plan.graph, make("a", "resolve-a-1", status="blocked", blob="1"), resolved)).unblocked == (
        "a",
    )
    assert "a" in plan.ready()


def test_resolve_task_completed_before_the_outcome_is_recorded_is_new() -> None:
    plan = Plan(chain())
    plan.start("a")
    resolved = make("resolve-a-1", status="completed")
    plan.update(edit(plan.graph, make("a", "resolve-a-1", status="blocked", blob="1"), resolved))
    plan.finish("a", Blocked("no key", "resolve-a-1"))
    assert "a" in plan.ready()


@pytest.mark.parametrize("blob", ["2", "0"])
def test_blocked_node_that_a_person_sets_to_pending_runs_again(blob: str) -> None:
    plan = Plan(chain())
    work(plan, "a", Blocked("no key"))
    plan.update(edit(plan.graph, make("a", status="blocked", blob="1")))
    assert "a" not in plan.ready()
    # Even the file's original content counts as new once the head has shown it as blocked.
    assert plan.update(edit(plan.graph, make("a", blob=blob))).unblocked == ("a",)
    assert "a" in plan.ready()


def test_edit_of_a_file_that_stays_blocked_is_not_new() -> None:
    plan = Plan(chain())
    work(plan, "a", Blocked("no key"))
    for blob in "12":
        assert plan.update(edit(plan.graph, make("a", status="blocked", blob=blob))).unblocked == ()
    assert "a" not in plan.ready()


def test_graph_read_before_the_blocker_landed_does_not_start_the_node_again() -> None:
    plan = Plan(chain())
    work(plan, "a", Blocked("no key"))
    plan.update(chain())
    assert plan.ready() == ("x",)


def test_node_that_blocks_again_waits_for_something_newer() -> None:
    plan = Plan(chain())
    work(plan, "a", Blocked("first"))
    plan.update(edit(plan.graph, make("a", blob="1")))
    work(plan, "a", Blocked("second"))
    plan.update(edit(plan.graph, make("new")))
    assert set(plan.ready()) == {"new", "x"}
    assert plan.outcomes["a"] == Blocked("second")


@pytest.mark.parametrize(
    "outcome", [Failed("disk full"), Aborted("by hand"), Skipped("budget"), Merged("c"), Checked("c")]
)
def test_other_outcomes_are_final_in_a_run(outcome: Outcome) -> None:
    plan = Plan(chain())
    work(plan, "a", outcome)
    plan.update(edit(plan.graph, make("a", blob="9")))
    assert plan.ready() == ("x",)
    assert plan.outcomes == {"a": outcome}
    assert plan.waits()["a"]


def test_blocked_node_skips_its_dependents_and_nothing_else() -> None:
    plan = Plan(chain())
    work(plan, "a", Blocked("no key", "resolve-a-1"))
    plan.update(edit(plan.graph, make("a", "resolve-a-1", status="blocked", blob="1"), make("resolve-a-1", human=True)))
    land(plan, "x")
    assert is_finished(plan)
    assert plan.skips() == {"b": "needs a, which is blocked", "c": "needs a, which is blocked"}
    assert plan.waiting_for_person() == ("resolve-a-1",)


def test_skip_names_several_root_causes_and_says_if_there_are_more() -> None:
    roots = [make(name) for name in "abcd"]
    plan = Plan(build_graph([*roots, make("mid", "b", "a"), make("two", "mid"), make("all", "mid", "c", "d")]))
    for name, outcome in zip("abcd", [Blocked("x"), Failed("x"), Aborted("x"), Failed("x")], strict=True):
        work(plan, name, outcome)
    assert plan.skips()["two"] == "needs b, which failed; needs a, which is blocked"
    assert (
        plan.skips()["all"] == "needs b, which failed; needs a, which is blocked; needs c, which was aborted; and more"
    )


def test_interrupted_run_skips_waiting_nodes_but_not_ready_ones() -> None:
    plan = Plan(build_graph([make("a"), make("b", "a"), make("bad"), make("c", "bad"), make("run"), make("d", "run")]))
    work(plan, "bad", Failed("x"))
    plan.start("run")
    assert plan.skips() == {
        "b": "needs a, which was not started",
        "c": "needs bad, which failed",
        "d": "needs run, which is still running",
    }


def test_reason_of_many_lines_is_cut_to_its_first() -> None:
    plan = Plan(chain())
    work(plan, "a", Failed("git broke\nand this is its log\n"))
    assert plan.waits()["a"] == "failed in this run: git broke"
    work(plan, "x", Failed(" "))
    assert plan.waits()["x"] == "failed in this run: no reason was given"


def test_only_runs_the_named_nodes_and_nothing_else() -> None:
    plan = Plan(chain(), only=["a", "c"])
    assert plan.ready() == ("a",)
    assert plan.waits() == {"b": "is not in --only", "c": "waits for b", "x": "is not in --only"}
    land(plan, "a")
    assert is_finished(plan)
    assert plan.skips() == {"c": "needs b, which is not in --only"}


def test_only_with_unknown_ids_names_each_with_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        Plan(build_graph([make("auth-setup")]), only=["auth-stup", "zzz"])
    assert str(caught.value).splitlines() == [
        '--only names "auth-stup", which no task file has. Did you mean "auth-setup"?',
        '--only names "zzz", which no task file has. `coordinator graph` lists all ids.',
    ]


def test_only_reports_the_people_its_nodes_need_and_no_others() -> None:
    done = make("done", "past", status="completed")
    people = [make(name, human=True) for name in ("sign", "other", "past")]
    plan = Plan(build_graph([*people, done, make("mid", "sign"), make("end", "mid", "done")]), only=["end"])
    assert plan.waiting_for_person() == ("sign",)
    assert plan.skips() == {"end": "needs mid, which is not in --only"}


def test_only_names_the_real_cause_of_an_unselected_node_that_could_not_run() -> None:
    plan = Plan(build_graph([make("a", status="failed"), make("b", "a")]), only=["b"])
    assert plan.waits() == {"a": "is not in --only", "b": "waits for a"}
    assert plan.skips() == {"b": "needs a, which has status failed"}


def test_only_node_that_is_removed_is_forgotten() -> None:
    plan = Plan(chain(), only=["x"])
    assert plan.update(edit(plan.graph, without="x")).removed == ("x",)
    assert is_finished(plan)
    assert plan.skips() == {}


def test_new_graph_says_what_it_changed() -> None:
    plan = Plan(chain())
    changed = edit(plan.graph, make("d", "new"), make("new"), make("c", "b", blob="1"), without="x", a="completed")
    assert plan.update(changed) == Changes(added=("new", "d"), removed=("x",), changed=("c",), completed=("a",))
    assert plan.update(changed) == Changes()


def test_node_may_gain_a_prerequisite_during_a_run() -> None:
    plan = Plan(chain())
    plan.update(edit(plan.graph, make("x", "first"), make("first")))
    assert set(plan.ready()) == {"a", "first"}
    assert plan.waits()["x"] == "waits for first"


def test_node_that_is_removed_while_it_runs_still_finishes() -> None:
    plan = Plan(chain())
    plan.start("x")
    plan.update(edit(plan.graph, without="x"))
    assert plan.running == {"x"}
    plan.finish("x", Blocked("gone"))
    assert plan.outcomes == {"x": Blocked("gone")}
    assert "x" not in plan.waits()


def test_run_is_finished_when_nothing_runs_and_nothing_is_ready() -> None:
    plan = Plan(build_graph([make("a")]))
    assert not is_finished(plan)
    plan.start("a")
    assert plan.ready() == ()
    assert not is_finished(plan)
    plan.finish("a", Merged("c"))
    assert is_finished(plan)
    assert is_finished(Plan(build_graph([])))


def test_misuse_is_refused() -> None:
    plan = Plan(chain())
    with pytest.raises(ValueError, match="b is not ready"):
        plan.start("b")
    with pytest.raises(ValueError, match="a is not running"):
        plan.finish("a", Merged("c"))


def test_node_whose_merge_was_undone_may_run_again() -> None:
    plan = Plan(chain())
    land(plan, "a")
    assert plan.update(edit(plan.graph, a="pending")) == Changes(reopened=("a",))
    assert plan.outcomes == {}
    assert plan.ready() == ("a", "x")
    assert plan.waits()["b"] == "waits for a"
    land(plan, "a")
    assert plan.outcomes == {"a": Merged("c0ffee")}
    assert plan.ready() == ("b", "x")


def test_node_whose_merge_is_taken_back_again_and_again_has_failed() -> None:
    plan = Plan(chain())
    for times in range(1, MAX_IN_A_ROW + 1):
        assert "a" in plan.ready(), times
        land(plan, "a")
        plan.update(edit(plan.graph, a="pending"))
    assert isinstance(plan.outcomes["a"], Failed)
    assert "was undone 3 times" in plan.outcomes["a"].reason
    assert "a" not in plan.ready()


def test_merge_that_was_undone_before_its_node_ended_is_not_an_outcome() -> None:
    plan = Plan(chain())
    plan.start("a")
    plan.update(edit(plan.graph, a="completed"))
    plan.update(edit(plan.graph, a="pending"))
    plan.finish("a", Merged("c0ffee"))
    assert plan.outcomes == {}
    assert "a" in plan.ready()


def test_merge_that_was_undone_and_made_again_counts() -> None:
    plan = Plan(chain())
    plan.start("a")
    for status in ("completed", "pending", "completed"):
        plan.update(edit(plan.graph, a=status))
    plan.finish("a", Merged("c0ffee"))
    assert plan.outcomes == {"a": Merged("c0ffee")}


def test_undone_merge_does_not_restart_a_failed_node() -> None:
    plan = Plan(build_graph([make("a", status="completed")]))
    plan.update(edit(plan.graph, a="pending"))
    work(plan, "a", Failed("broke"))
    assert plan.ready() == ()
