"""What Prefect believes after a kill: dead runs of a repository are told to it by the next, and no others."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import Coordinator, ask_until
from e2e.test_messages import make_gated, open_gate
from e2e.test_whole_runs import find_run, make_flat

from flows.data_directory import REGISTRY
from flows.stale_flow_runs import Origin, find_own_origin, name_repository, read_origin
from tasks_lib.git.repository_lock import RunLock

pytestmark = pytest.mark.xdist_group("prefect, with much waiting")
REFUSED = """
import asyncio, sys
from flows.run_graph import RunOptions, run_graph
asyncio.run(run_graph(RunOptions(repository=sys.argv[1]), return_state=True))
"""
"""As a worker's engine calls the flow: nobody looked whether the repository is free."""
DEAD = (2**22 - 5, 12)
"""A process that is none: its start lies before the machine's."""


def read_run(coordinator: Coordinator, run: str) -> dict[str, Any]:
    return coordinator.ask(f"flow_runs/{run}")


def read_states(coordinator: Coordinator, run: str) -> list[str]:
    """The types of the states of all task runs of a flow run."""
    body = {"flow_runs": {"id": {"any_": [run]}}, "limit": 200}
    found = coordinator.ask("task_runs/filter", body)
    return [one["state_type"] for one in found]


def make_run(coordinator: Coordinator, flow: str, tags: list[str], state: str = "RUNNING") -> str:
    body = {"flow_id": flow, "tags": tags, "state": {"type": state}}
    return str(coordinator.ask("flow_runs/", body)["id"])


def test_a_killed_run_is_told_to_prefect_by_the_next_and_no_other_is(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 2, gated=2)
    common = made.repository / ".git"
    process = coordinator.start("run", made.repository)
    ask_until(
        lambda: process.poll() is not None or sum(one["event"] == "start" for one in made.read_journal()) >= 2, bool
    )
    killed = find_run(made)
    ask_until(lambda: read_states(coordinator, killed), lambda states: states.count("RUNNING") == 2)
    process.kill()
    output = process.communicate()[0]
    before = read_run(coordinator, killed)
    assert (before["state_type"], set(before["tags"]) > {name_repository(common)}) == ("RUNNING", True), output
    flow, ours, dead = before["flow_id"], name_repository(common), Origin(socket.gethostname(), *DEAD)
    others = {
        "of another repository": make_run(coordinator, flow, [f"{ours}x", dead.tag]),
        "of another host": make_run(coordinator, flow, [ours, Origin("elsewhere.example", *DEAD).tag]),
        "of a process that lives": make_run(coordinator, flow, [ours, find_own_origin().tag]),
        "that says nothing of where it is": make_run(coordinator, flow, [ours]),
        "that was never begun": make_run(coordinator, flow, [ours, dead.tag], "SCHEDULED"),
    }
    pending = make_run(coordinator, flow, [ours, dead.tag], "PENDING")
    open_gate(made)
    code, output = coordinator.run("doctor", "--audit", made.repository)
    assert (code, f"flow run {killed}: is still running in Prefect" in output) == (1, True), output

    code, output = coordinator.run("run", made.repository)

    assert code == 0, output
    after = read_run(coordinator, killed)
    assert (after["state_type"], f"process {process.pid} on" in after["state"]["message"]) == ("CRASHED", True)
    assert read_states(coordinator, killed) == ["CRASHED", "CRASHED"]
    assert read_run(coordinator, pending)["state_type"] == "CRASHED"
    assert f"({killed}) as Crashed" in output
    states = {name: read_run(coordinator, run)["state_type"] for name, run in others.items()}
    assert states == dict.fromkeys(others, "RUNNING") | {"that was never begun": "SCHEDULED"}
    assert read_run(coordinator, find_run(made))["state_type"] == "COMPLETED"
    code, output = coordinator.run("doctor", "--audit", "--verify", made.repository)
    expected = "no violations: 2 commits and 0 worktrees checked, 2 commits verified again"
    assert (code, expected in output) == (0, True), output
    check_that_a_kill_at_the_very_end_is_put_right(coordinator, made.repository, flow, [ours, dead.tag])


def check_that_a_kill_at_the_very_end_is_put_right(
    coordinator: Coordinator, repository: Path, flow: str, tags: list[str]
) -> None:
    """Nothing is left to work, and still there is a run to be told of: the lock's content says so."""
    last = make_run(coordinator, flow, tags)
    (repository / ".git/coordinator/lock").write_text('{"host": "elsewhere", "pid": 1, "run": "last"}')
    code, output = coordinator.run("run", repository)
    assert (code, read_run(coordinator, last)["state_type"]) == (0, "CRASHED"), output
    assert "The lock was left by run last (process 1 on elsewhere" in output
    # Killed between saying how it ended and telling Prefect: nothing in the repository tells of it.
    untold = make_run(coordinator, flow, tags)
    code, output = coordinator.run("run", repository)
    assert (code, read_run(coordinator, untold)["state_type"]) == (0, "CRASHED"), output
    assert "there is nothing to do" in output


def test_the_state_of_a_flow_run_that_is_refused_says_who_works_there(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_flat(tmp_path, 1)
    (coordinator.data / REGISTRY).write_text(json.dumps({"repository": str(made.repository)}))
    with RunLock(made.repository / ".git/coordinator", "first"):
        subprocess.run(
            [sys.executable, "-c", REFUSED, str(made.repository)],
            env=coordinator.environment(), capture_output=True, check=True, timeout=300,
        )  # fmt: skip
        body = {"flow_runs": {"tags": {"all_": [name_repository(made.repository / ".git")]}}}
        (run,) = coordinator.ask("flow_runs/filter", body)
    assert run["state_type"] == "FAILED"
    assert f"run first (process {os.getpid()} on {socket.gethostname()}" in run["state"]["message"]


def test_a_tag_is_read_as_it_was_written() -> None:
    for origin in (find_own_origin(), Origin("a:b", 1, 2)):
        assert read_origin(["other", origin.tag]) == origin
    assert [read_origin([tag]) for tag in ("process:a:b:c", "process:1:2", "process:a:-1:2", "")] == [None] * 4
