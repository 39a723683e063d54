"""A target that is red by itself: once that is known, no other session starts on top of it."""

from run_harness import RunHarness, Tasks, reach

from tasks_lib.engine.run_lifecycle import OpenRun
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
