"""The turn in which an agent writes the summary of a run's report: what it gets, and that it changes nothing else."""

import asyncio

import pytest
from run_harness import RunHarness, RunResult, reach

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.project.after_action import gather
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.after_action import AfterActionReport
from tasks_lib.reporting.run_report import ExitCode

REPORT = {"summary_role": "writer"}


def write_report(harness: RunHarness) -> AfterActionReport:
    return gather(load_project(harness.top, {}))


def list_said(worked: RunResult) -> list[str]:
    return [line for line in worked.view.messages if "summary" in line]


def writing(script: str) -> str:
    """An agent that does `script` to write a summary."""
    return f"if [ $role = writer ]; then {script}; exit; fi\nwork"


async def test_a_summary_is_written_from_the_report_by_a_session_that_changes_nothing(harness: RunHarness) -> None:
    script = "echo x > stray.txt; git add .; git commit -qm stray; echo '## All 1 nodes landed.'"
    harness.make({"a": {}}, writing(script), report=REPORT)
    worked = await harness.work()
    assert (worked.names, worked.code) == ({"a": "Merged"}, ExitCode.COMPLETED)
    [name] = [one for one in harness.journal.turns() if not one.startswith("a-")]
    prompt = harness.journal.read(name)
    assert "1 of 1 node landed." in prompt
    assert "exit code 0." in prompt
    assert "never judged" not in prompt
    made = write_report(harness)
    assert made.summary is not None
    assert (made.summary.role, made.summary.text) == ("writer", "All 1 nodes landed.")
    assert made.figures.spending.by_role["writer"].turns == 1
    assert made.figures.spending.by_node["(the report)"].turns == 1
    assert list_said(worked) == []
    assert "stray.txt" not in harness.git.text("ls-tree", "-r", "--name-only", "main")
    assert harness.leftovers() == []
    (await harness.work()).names  # noqa: B018 - Nothing is left to do.
    assert write_report(harness).summary is None


FAILURES = {
    "exit 3": "exited with 3",
    "true": "writer wrote none",
    "sleep 1000": "took longer than 0.3 seconds",
    "coordinator_does_not_exist_here": "exited with",
}


@pytest.mark.parametrize("script", FAILURES)
async def test_one_that_cannot_be_written_is_said_once_and_the_run_is_as_good(harness: RunHarness, script: str) -> None:
    seconds = 0.3 if "sleep" in script else 300
    harness.make({"a": {}}, writing(script), report={**REPORT, "summary_seconds": seconds})
    worked = await harness.work()
    assert (worked.names, worked.code) == ({"a": "Merged"}, ExitCode.COMPLETED)
    [said] = list_said(worked)
    assert said.startswith("The report on this run has no summary: ")
    assert FAILURES[script] in said
    assert write_report(harness).summary is None
    assert write_report(harness).figures.spending.by_role["writer"].turns == 1


async def test_a_budget_that_is_used_up_is_kept(harness: RunHarness) -> None:
    harness.make({"a": {}}, writing("echo Done."), report=REPORT, budget={"run": {"turns": 1}})
    worked = await harness.work()
    assert (worked.names, worked.code) == ({"a": "Merged"}, ExitCode.COMPLETED)
    [said] = list_said(worked)
    assert "has no summary: " in said
    assert "budget.run.turns" in said
    assert write_report(harness).figures.spending.total.turns == 1


async def test_a_run_that_is_stopped_has_none(harness: RunHarness) -> None:
    agent = writing("echo Done.").replace("\nwork", "\nif [ $id = b ]; then tell started; await go; fi; work")
    harness.make({"a": {}, "b": {}}, agent, signals=("started", "go"), report=REPORT)

    async def stop(opened: OpenRun) -> None:
        await harness.signals["started"].wait()
        await reach(opened, "a: Merged")
        opened.run.stopping.request()

    assert (await harness.work(during=stop)).code is ExitCode.INTERRUPTED
    assert write_report(harness).figures.spending.by_role.keys() == {"implementation-specialist"}


async def test_a_stop_during_that_turn_ends_it_and_changes_nothing(harness: RunHarness) -> None:
    harness.make({"a": {}}, writing("tell writing; await never"), signals=("writing", "never"), report=REPORT)
    stops: list[asyncio.Task[None]] = []

    async def stop(opened: OpenRun) -> None:
        await harness.signals["writing"].wait()
        opened.run.stopping.request()

    async def begin(opened: OpenRun) -> None:
        stops.append(asyncio.create_task(stop(opened)))

    worked = await harness.work(during=begin)
    assert (worked.names, worked.code, list_said(worked)) == ({"a": "Merged"}, ExitCode.COMPLETED, [])
    made = write_report(harness)
    assert (made.summary, made.figures.spending.by_role["writer"].turns) == (None, 1)
    assert harness.leftovers() == []
