"""Provider rate limits, with the real opencode: short waits cost nothing, a long one stops the run once."""

import pytest
from checker import Meant, check, snapshot_user_state
from e2e.opencode_harness import OpencodeHarness, commit, node

from flows.demo.model_script import Step
from tasks_lib.reporting.run_report import ExitCode

pytestmark = pytest.mark.xdist_group("opencode")
SOON = {"retry-after-ms": "50"}
"""opencode honours this header, so it gives up almost at once, after its five retries."""


async def test_wait_of_a_day_stops_the_run_once_with_its_date_and_counts_no_attempt(oc: OpencodeHarness) -> None:
    ids = [f"n{number}" for number in range(5)]
    oc.make({task_id: node(commit(task_id)) for task_id in ids})
    before = snapshot_user_state(oc.top)
    oc.mind.refusal = Step(error=429, headers={"retry-after": "86400"}, message="Daily limit reached")

    worked = await oc.work(max_sessions=3)

    assert worked.code is ExitCode.BLOCKED
    [said] = [line for line in worked.view.messages if "accepts no request" in line]
    assert said.startswith("The run is stopping: the provider accepts no request before 20")
    assert " UTC (Daily limit reached)" in said
    assert set(worked.names.values()) == {"Aborted"}
    assert (oc.log("%s"), worked.retries) == (["Begin"], [])
    assert {oc.record(f"feat/{task_id}").attempt.number for task_id in worked.started} == {1}
    assert len(oc.model.requests) <= 3
    assert oc.find_remains() == []
    oc.mind.refusal = None
    worked = await oc.work(max_sessions=3)
    assert worked.code is ExitCode.COMPLETED
    assert check(oc.top, before=before, meant=Meant(dict.fromkeys(ids, "completed"))) == []
    assert oc.log("%(trailers:key=Attempt,valueonly,separator=)", "--merges") == ["1"] * 5


async def test_limit_without_a_time_stops_the_run_once_its_patience_is_used_up(oc: OpencodeHarness) -> None:
    oc.make({"a": node(commit("a")), "b": node(commit("b"))}, watch={"limit_seconds": 0.01}, review={"when": "never"})
    oc.mind.refusal = Step(error=529, headers=SOON, message="Overloaded")

    worked = await oc.work()

    [said] = [line for line in worked.view.messages if line.startswith("The run is stopping: ")]
    assert "watch.limit_seconds" in said
    assert (set(worked.names.values()), worked.retries) == ({"Aborted"}, [])
    assert {oc.record(f"feat/{task_id}").attempt.number for task_id in worked.started} == {1}
