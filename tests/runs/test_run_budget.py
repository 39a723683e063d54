"""Budgets: what an attempt, a node and a run may spend, and where spending is recorded."""

from run_harness import RunHarness

from tasks_lib.reporting.run_report import ExitCode


async def test_what_was_spent_is_in_the_trailer_and_the_record(harness: RunHarness) -> None:
    harness.make({"a": {}}, "if [ $turn = 1 ]; then echo nothing yet; else work; fi")
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.trailer("Spent").startswith("2 turns")


async def test_an_attempt_out_of_turns_fails_and_the_next_one_begins_anew(harness: RunHarness) -> None:
    harness.make({"a": {}}, "if [ $attempt = 2 ]; then work; fi", budget={"attempt": {"turns": 2}})
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1", "a-1-2", "a-2-1"]
    [(_, reason)] = worked.retries
    assert "budget.attempt.turns is 2" in reason
    assert harness.trailer("Spent").startswith("3 turns")


async def test_a_node_out_of_turns_is_blocked_until_a_person_lets_it_go_on(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, "if [ $id = b ]; then work; fi", budget={"node": {"turns": 2}})
    worked = await harness.work()
    assert worked.names == {"a": "Blocked", "b": "Merged"}
    assert "budget.node.turns is 2" in str(worked.outcomes["a"])
    harness.write_agent("work")
    harness.set_status("resolve-a-1", "completed")
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.trailer("Spent").startswith("3 turns")


async def test_a_run_out_of_turns_stops_with_one_sentence_and_keeps_the_work(harness: RunHarness) -> None:
    tasks = {"a": {}, "b": {"depends_on": ["a"]}, "c": {"depends_on": ["b"]}}
    harness.make(tasks, "if [ $id = a ]; then work; fi", budget={"run": {"turns": 2}})
    worked = await harness.work(max_sessions=1)
    assert worked.names == {"a": "Merged", "b": "Failed"}
    assert worked.code is ExitCode.BLOCKED
    assert len([line for line in worked.view.messages if "budget.run.turns is 2" in line]) == 1
    harness.write_agent("work")
    assert (await harness.work()).names == {"b": "Merged", "c": "Merged"}


async def test_a_turn_is_ended_when_the_time_of_its_node_is_used_up(harness: RunHarness) -> None:
    harness.make({"a": {}}, "echo half > half.txt; commit wip; sleep 1000", budget={"node": {"seconds": 0.5}})
    worked = await harness.work()
    assert worked.names == {"a": "Blocked"}
    assert "budget.node.seconds is 0.5" in str(worked.outcomes["a"])
    assert harness.show("half.txt", "feat/a") == "half\n"
