"""A target that is red by itself: once that is known, no other session starts on top of it."""

from run_harness import RunHarness, Tasks, reach

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import OutcomeName
from tasks_lib.reporting.run_report import ExitCode

TASKS: Tasks = {name: {} for name in ("a", "b", "c", "d", "e")}
AGENT = "[ $id = a ] || await go\nwork"
GREEN = "test ! -e broken"


def make(harness: RunHarness) -> None:
    harness.make(TASKS, AGENT, verify=[GREEN], signals=["go"], files={"broken": "x\n"})


def repair(harness: RunHarness) -> None:
    harness.git.run("rm", "--quiet", "broken")
    harness.git.run("commit", "--quiet", "--message", "Repair it")


async def test_no_session_starts_once_the_target_is_known_to_be_red(harness: RunHarness) -> None:
    """Those in progress continue; the run ends early and says what was left out, and the next one does it."""
    make(harness)

    async def continue_others(opened: OpenRun) -> None:
        await reach(opened, ": The merge queue is on hold")
        harness.signals["go"].send(5)

    worked = await harness.work(max_sessions=1, during=continue_others)
    assert set(worked.started) <= {"a", "b"}
    assert worked.code is ExitCode.BLOCKED
    assert all(name == "Failed" for name in worked.names.values())
    holds = [line for line in worked.lines if line.startswith("The merge queue is on hold. main itself is red")]
    assert len(holds) == 1
    assert holds[0].endswith("Nothing lands until main moves, and no other session starts.")
    assert any("main itself is red, so " in line and "e were not started" in line for line in worked.lines)
    repair(harness)
    harness.signals["go"].send(5)
    again = await harness.work(max_sessions=1)
    assert set(again.names) == set(TASKS)
    assert again.code is ExitCode.COMPLETED
    assert len(harness.journal.turns()) == len(TASKS)


async def test_a_red_target_is_found_while_the_first_sessions_work(harness: RunHarness) -> None:
    harness.make(TASKS, "await go\nwork", verify=[GREEN], signals=["go"], files={"broken": "x\n"})

    async def continue_all(opened: OpenRun) -> None:
        await reach(opened, ": The merge queue is on hold")
        assert {node.outcome for node in opened.run.board.view.nodes.values()} == {OutcomeName.NONE}
        harness.signals["go"].send(5)

    worked = await harness.work(max_sessions=2, during=continue_all)
    assert len(harness.journal.turns()) == 2
    assert worked.code is ExitCode.BLOCKED
    assert sum("main itself is red without" in line for line in worked.lines if line.startswith("The merge")) == 1


async def test_a_head_that_was_verified_in_the_same_way_is_not_verified_again(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, verify=[f"git rev-parse HEAD >> {harness.place}/verified"])
    await harness.work(only=["a"])
    head = harness.at()
    await harness.work(only=["b"])
    verified = (harness.place / "verified").read_text().split()
    assert verified.count(head) == 1
    assert len(verified) == 3


async def test_sessions_start_again_in_the_same_run_when_the_target_is_repaired(harness: RunHarness) -> None:
    make(harness)

    async def repair_then_continue(opened: OpenRun) -> None:
        await reach(opened, ": The merge queue is on hold")
        repair(harness)
        harness.signals["go"].send(5)

    worked = await harness.work(max_sessions=2, during=repair_then_continue)
    assert worked.code is ExitCode.COMPLETED
    assert set(worked.names.values()) == {"Merged"}


async def test_work_that_repairs_the_target_lets_the_others_start(harness: RunHarness) -> None:
    """It was in progress when the target was found to be red."""
    agent = "if [ $id = b ]; then await go; git rm -q broken; commit fix; else work; fi"
    harness.make(TASKS, agent, verify=[GREEN], signals=["go"], files={"broken": "x\n"})

    async def continue_others(opened: OpenRun) -> None:
        await reach(opened, ": The merge queue is on hold")
        harness.signals["go"].send(5)

    worked = await harness.work(max_sessions=2, during=continue_others)
    assert worked.code is ExitCode.COMPLETED
    assert set(worked.names.values()) == {"Merged"}
