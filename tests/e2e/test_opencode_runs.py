"""Runs with the real opencode as a person starts them, kills them, and configures them wrongly."""

import asyncio
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from checker import Meant, check, snapshot_user_state
from e2e.conftest import RUN_SECONDS, Coordinator
from e2e.opencode_harness import OpencodeHarness, bash, commit, isolate, node, opening, read_prompts, read_results
from running_processes import list_running

from flows.demo.model_script import Step

pytestmark = pytest.mark.xdist_group("prefect and opencode")


@pytest.fixture
def oc(tmp_path: Path) -> Iterator[OpencodeHarness]:
    with opening(tmp_path) as harness:
        yield harness


@pytest.fixture
def alone(tmp_path: Path) -> Mapping[str, str]:
    """Variables that keep a person's own settings out."""
    return isolate(tmp_path)


def test_a_coordinator_that_is_killed_goes_on_in_the_same_conversations(
    coordinator: Coordinator, oc: OpencodeHarness, alone: Mapping[str, str]
) -> None:
    pid, killed, begun = oc.place / "pid", oc.place / "killed", oc.signal_path("begun")
    first = bash(f"test -e {killed} || {{ sleep 1000 & echo $! > {pid}; echo > {begun}; wait; }}; echo past it")
    oc.make(
        {
            "slow": node(first, commit("slow")),
            "quick": node(commit("quick")),
            "last": node(commit("last"), depends_on=["slow"]),
        },
        signals=["begun"],
    )
    before = snapshot_user_state(oc.top)
    process = coordinator.start("run", oc.top, extra=alone)
    asyncio.run(asyncio.wait_for(oc.signals["begun"].wait(), RUN_SECONDS))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    conversation = oc.record("feat/slow").turn.conversation
    left, child = oc.find_processes(), psutil.Process(int(pid.read_text()))
    assert child in left
    killed.touch()

    code, output = coordinator.run("run", oc.top, extra=alone)

    assert code == 0, output
    assert "processes that an earlier run had left" in output
    assert list_running(left) == []
    assert check(oc.top, before=before, meant=Meant(dict.fromkeys(("slow", "quick", "last"), "completed"))) == []
    assert oc.log("%(trailers:key=Attempt,valueonly,separator=)", "--merges") == ["1"] * 3
    assert conversation.startswith("0:ses_")
    messages = oc.requests("slow")[-1]
    assert len(read_prompts(messages)) == 2
    assert "The worktree contains the work of an earlier session" in read_prompts(messages)[1]
    assert len(read_results(messages)) == 3
    assert "past it" in read_results(messages)[1]


def test_a_provider_that_refuses_the_key_stops_the_run_with_one_message(
    coordinator: Coordinator, oc: OpencodeHarness, alone: Mapping[str, str]
) -> None:
    oc.make({f"n{number}": node(commit(f"n{number}")) for number in range(5)})
    oc.mind.refusal = Step(error=401, message="Incorrect API key provided")

    code, output = coordinator.run("run", oc.top, "--max-sessions", "3", extra=alone)

    assert code == 1, output
    live, summary = output.split("\nnode ")
    for part in (live, summary):
        assert (
            part.count("The run is stopping: the provider of scripted/m1 refuses the key (401: Incorrect API key") == 1
        )
        assert part.count("Incorrect API key") == 1
    assert output.splitlines()[-1].startswith("The run stopped early")
    assert oc.find_remains() == []


def test_a_role_that_is_not_there_ends_with_2_before_anything_is_made(
    coordinator: Coordinator, oc: OpencodeHarness, alone: Mapping[str, str]
) -> None:
    oc.make({"a": node(commit("a"))}, roles={"implementation": "implementer"})

    code, output = coordinator.run("run", oc.top, extra=alone)
    assert code == 2, output
    assert "the role implementer is not available" in output
    assert "Available roles: architect, build, code-reviewer" in " ".join(output.split())
    assert oc.leftovers() == []
    assert oc.find_remains() == []
