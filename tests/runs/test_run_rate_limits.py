"""Provider rate limits, with the real opencode: short waits cost nothing, a long one stops the run once."""

import asyncio
from copy import deepcopy

import pytest
from checker import Meant, check, snapshot_user_state
from e2e.opencode_harness import OpencodeHarness, bash, commit, describe_opencode, node, read_prompts

from flows.demo.model_script import Step
from flows.demo.model_server import Body
from tasks_lib.agents.opencode.turns import turn_runner
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.node.provider_limits import ASKED_AGAIN
from tasks_lib.reporting.run_report import ExitCode

pytestmark = pytest.mark.xdist_group("opencode")
OTHER = "other/m1"
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


def add_other_provider(oc: OpencodeHarness) -> None:
    """Let task files also name `OTHER`: the same scripted model, for the coordinator another provider."""
    config = describe_opencode(oc.model.url)["config"]
    providers = {**config["provider"], "other": deepcopy(config["provider"]["scripted"])}
    oc.agent = {"config": {"provider": providers, "enabled_providers": list(providers)}}


async def test_suspended_session_gives_its_place_away_and_continues_its_conversation(oc: OpencodeHarness) -> None:
    add_other_provider(oc)
    limit = {"error": 429, "headers": {"retry-after": "6"}, "times": 1, "message": "Rate limit reached"}
    tasks = {
        "a-limited": node(bash("echo half > half.txt"), limit, commit("a-limited"), priority="high"),
        "b-same": node(commit("b-same")),
        "c-other": node(commit("c-other"), model=OTHER, priority="low"),
    }
    oc.make(tasks, watch={"suspend_seconds": 1}, review={"when": "never"})
    before = snapshot_user_state(oc.top)

    worked = await oc.work(max_sessions=1)

    assert (worked.code, worked.retries) == (ExitCode.COMPLETED, [])
    assert worked.started == ["a-limited", "c-other", "b-same"]
    [merged] = [number for number, line in enumerate(worked.lines) if "c-other: Merged" in line]
    [suspended] = [number for number, line in enumerate(worked.lines) if "a-limited: session: suspended until" in line]
    [landed] = [number for number, line in enumerate(worked.lines) if "a-limited: Merged" in line]
    assert suspended < merged < landed
    assert ASKED_AGAIN in read_prompts(oc.requests("a-limited")[-1])
    assert check(oc.top, before=before, meant=Meant(dict.fromkeys(tasks, "completed"))) == []
    assert oc.log("%(trailers:key=Attempt,valueonly,separator=)", "--merges") == ["1"] * 3


async def test_outage_of_the_provider_costs_no_attempt(oc: OpencodeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_runner, "RATE_SECONDS", 0.5)
    oc.make({"a": node(commit("a")), "b": node(commit("b"))}, review={"when": "never"})
    oc.mind.refusal = Step(error=500, headers=SOON, message="Out of order")

    async def recover(opened: OpenRun) -> None:
        """Answer again once the session was asked to continue, so that opencode's own retries were not enough."""

        def was_asked_again(requests: list[Body]) -> bool:
            return any(ASKED_AGAIN in read_prompts(body) for body in requests)

        await asyncio.to_thread(oc.model.wait_for, was_asked_again)
        oc.mind.refusal = None

    worked = await oc.work(during=recover)

    assert (worked.code, worked.retries) == (ExitCode.COMPLETED, [])
    assert oc.log("%(trailers:key=Attempt,valueonly,separator=)", "--merges") == ["1"] * 2


async def test_error_that_only_one_session_gets_fails_its_attempt(
    oc: OpencodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_runner, "RATE_SECONDS", 0.5)
    broken = {"error": 500, "headers": SOON, "message": "Cannot parse the request"}
    once = {"attempts": 1, "delay_seconds": 0, "max_delay_seconds": 0}
    oc.make({"a": node(broken), "b": node(commit("b"))}, review={"when": "never"}, retry=once)

    worked = await oc.work(max_sessions=1)

    assert (worked.code, worked.names) == (ExitCode.BLOCKED, {"a": "Blocked", "b": "Merged"})
