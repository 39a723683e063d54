"""What Prefect believes after a kill: dead runs of a repository are told to it by the next, and no others."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from chaos.tracer import Target
from e2e.checkout_deployments import deploy
from e2e.conftest import Coordinator, ask_until, send_api
from e2e.test_messages import make_gated, open_gate
from e2e.test_prefect_records import proxied
from e2e.test_whole_runs import find_run, make_flat
from prefect.client.schemas.objects import FlowRun

from flows.data_directory import REGISTRY
from flows.flow_run_marks import Marks, Origin, RepositoryId, find_own_origin, find_repository_id, read_marks
from flows.prefect_server import Child
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


def make_run(coordinator: Coordinator, flow: str, marks: Marks, state: str = "RUNNING") -> str:
    """Make a flow run with `marks`, and return its id."""
    body = {"flow_id": flow, "labels": marks.labels, "state": {"type": state}}
    return str(coordinator.ask("flow_runs/", body)["id"])


def make_tagged_run(coordinator: Coordinator, flow: str, tags: list[str]) -> str:
    body = {"flow_id": flow, "tags": tags, "state": {"type": "RUNNING"}}
    return str(coordinator.ask("flow_runs/", body)["id"])


def list_runs(coordinator: Coordinator, repository: Path) -> list[dict[str, Any]]:
    """The flow runs with a mark of the repository, the newest first; Prefect's server cannot filter by labels."""
    found = coordinator.ask("flow_runs/filter", {"flows": {"name": {"any_": ["run-graph"]}}, "sort": "START_TIME_DESC"})
    repository_id = find_repository_id(repository / ".git")
    names = ("coordinator.git_dir", "coordinator.inode")
    return [
        run
        for run in found
        if [run["labels"].get(name) for name in names] == [repository_id.git_dir, repository_id.inode]
    ]


def list_old_tags(marks: Marks) -> list[str]:
    """What releases before the labels wrote."""
    origin, repository_id = marks.origin, marks.repository
    return [
        f"process:{origin.host}:{origin.pid}:{origin.started}",
        f"repository:{repository_id.git_dir}#{repository_id.inode:x}",
        "a person's own",
    ]


def make_other_runs(coordinator: Coordinator, flow: str, marks: Marks) -> dict[str, str]:
    """Make flow runs that only resemble a dead run with `marks`; return their ids by what they are."""
    origin, repository_id = marks.origin, marks.repository
    return {
        "of another repository": make_run(
            coordinator, flow, Marks(origin, RepositoryId(f"{repository_id.git_dir}x", repository_id.inode))
        ),
        "of another host": make_run(coordinator, flow, Marks(Origin("elsewhere.example", *DEAD), repository_id)),
        "of another machine with this name": make_run(
            coordinator, flow, Marks(Origin(socket.gethostname(), *DEAD, "another"), repository_id)
        ),
        "of a live process": make_run(coordinator, flow, Marks(find_own_origin(), repository_id)),
        "without a location": make_tagged_run(coordinator, flow, list_old_tags(marks)[1:]),
        "never begun": make_run(coordinator, flow, marks, "SCHEDULED"),
    }


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
    assert (before["state_type"], before["tags"], before["labels"]["coordinator.pid"]) == (
        "RUNNING", ["coordinator"], process.pid,
    ), output  # fmt: skip
    flow, repository_id, dead = before["flow_id"], find_repository_id(common), Origin(socket.gethostname(), *DEAD)
    others = make_other_runs(coordinator, flow, Marks(dead, repository_id))
    pending = make_run(coordinator, flow, Marks(dead, repository_id), "PENDING")
    old = make_tagged_run(coordinator, flow, list_old_tags(Marks(dead, repository_id)))
    open_gate(made)
    code, output = coordinator.run("doctor", "--audit", made.repository)
    assert (code, f"flow run {killed}: is still running in Prefect" in output) == (1, True), output

    code, output = coordinator.run("run", made.repository)

    assert code == 0, output
    after = read_run(coordinator, killed)
    assert (after["state_type"], f"process {process.pid} on" in after["state"]["message"]) == ("CRASHED", True)
    assert read_states(coordinator, killed) == ["CRASHED", "CRASHED"]
    assert [read_run(coordinator, one)["state_type"] for one in (pending, old)] == ["CRASHED"] * 2
    assert f"({killed}) as Crashed" in output
    states = {name: read_run(coordinator, run)["state_type"] for name, run in others.items()}
    assert states == dict.fromkeys(others, "RUNNING") | {"never begun": "SCHEDULED"}
    assert read_run(coordinator, find_run(made))["state_type"] == "COMPLETED"
    code, output = coordinator.run("doctor", "--audit", "--verify", made.repository)
    expected = "no violations: 2 commits and 0 worktrees checked, 2 commits verified again"
    assert (code, expected in output) == (0, True), output
    check_that_a_kill_at_the_very_end_is_put_right(coordinator, made.repository, flow, Marks(dead, repository_id))


def check_that_a_kill_at_the_very_end_is_put_right(
    coordinator: Coordinator, repository: Path, flow: str, marks: Marks
) -> None:
    """Every node is completed, and still there is a run that Prefect has to be told about: the lock's content says so."""
    last = make_run(coordinator, flow, marks)
    (repository / ".git/coordinator/lock").write_text('{"host": "elsewhere", "pid": 1, "run": "last"}')
    code, output = coordinator.run("run", repository)
    assert (code, read_run(coordinator, last)["state_type"]) == (0, "CRASHED"), output
    assert "The lock was left by run last (process 1 on elsewhere" in output
    # Killed between saying how it ended and telling Prefect: nothing in the repository tells of it.
    untold = make_run(coordinator, flow, marks)
    code, output = coordinator.run("run", repository)
    assert (code, read_run(coordinator, untold)["state_type"]) == (0, "CRASHED"), output
    assert "Every node is completed on main; there is nothing to do" in output
    # Killed after its own record said how it ended.
    ended = make_run(coordinator, flow, marks)
    record = repository / ".git/coordinator/run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "run": ended, "exit_code": 3}))
    code, output = coordinator.run("run", repository)
    state = read_run(coordinator, ended)["state"]
    assert (code, state["type"], state["name"]) == (0, "FAILED", "Waiting"), output
    assert "exited before it had reported this to Prefect" in state["message"]
    _, output = coordinator.run("doctor", "--audit", repository)
    assert f"flow run {ended}" not in output


def test_run_killed_as_soon_as_it_exists_in_prefect_is_recognized_by_the_next(
    server: Child, coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_flat(tmp_path, 1)
    made.behave("flat-0", seconds=0.0)
    with proxied(server.port) as proxy:
        # The server has the flow run, and the process that asked for it never hears of it.
        proxy.target = Target("after", "call POST /api/flow_runs/")
        process = replace(coordinator, api=proxy.url).start("run", made.repository)
        proxy.victim = process.pid
        output = process.communicate(timeout=300)[0]
    assert process.returncode == -signal.SIGKILL, output
    (killed,) = list_runs(coordinator, made.repository)
    assert (killed["state_type"], killed["labels"]["coordinator.pid"]) == ("PENDING", process.pid)

    code, output = coordinator.run("run", made.repository)

    assert (code, f"({killed['id']}) as Crashed" in output) == (0, True), output
    assert read_run(coordinator, killed["id"])["state_type"] == "CRASHED"


def test_run_that_is_killed_after_it_was_paused_is_recognized_by_the_next(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 1, gated=1)
    process = coordinator.start("run", made.repository)
    ask_until(lambda: process.poll() is not None or bool(made.read_journal()), bool)
    paused = find_run(made)
    process.send_signal(signal.SIGSTOP)  # So that it is killed before it learns of the pause.
    state = {"type": "PAUSED", "name": "Paused"}
    coordinator.ask(f"flow_runs/{paused}/set_state", {"state": state, "force": True})
    process.kill()
    output = process.communicate()[0]
    assert read_run(coordinator, paused)["state_type"] == "PAUSED", output
    open_gate(made)

    code, output = coordinator.run("run", made.repository)

    assert (code, f"({paused}) as Crashed" in output) == (0, True), output
    assert read_run(coordinator, paused)["state_type"] == "CRASHED"


def test_run_that_a_worker_has_just_continued_or_that_waits_for_a_person_is_not_over(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_flat(tmp_path, 1)
    deployment = coordinator.ask(f"deployments/{deploy(coordinator)}")
    place, dead = find_repository_id(made.repository / ".git"), Origin(socket.gethostname(), *DEAD)

    def make(state: Mapping[str, Any], *, is_fresh: bool) -> str:
        """Make a run of a worker in `state`, marked in it or, if it `is_fresh`, in an earlier one."""
        body = {"flow_id": deployment["flow_id"], "deployment_id": deployment["id"], "state": state}
        made = coordinator.ask("flow_runs/", body)
        began = datetime.fromisoformat(made["state"]["timestamp"]).timestamp()
        marks = Marks(dead, place, began - 1 if is_fresh else began)
        send_api(coordinator.api, "PATCH", f"flow_runs/{made['id']}/labels", marks.labels)
        return str(made["id"])

    suspended = {"type": "PAUSED", "name": "Suspended", "state_details": {"pause_reschedule": True}}
    stays = [make({"type": "RUNNING"}, is_fresh=True), make(suspended, is_fresh=False)]
    ends = [make({"type": "RUNNING"}, is_fresh=False), make({"type": "PAUSED", "name": "Paused"}, is_fresh=False)]

    code, output = coordinator.run("cleanup", made.repository)

    assert code == 0, output
    assert [read_run(coordinator, run)["state_type"] for run in stays] == ["RUNNING", "PAUSED"], output
    assert [read_run(coordinator, run)["state_type"] for run in ends] == ["CRASHED"] * 2, output
    for run in stays:
        send_api(coordinator.api, "DELETE", f"flow_runs/{run}")


def test_the_state_of_a_flow_run_that_is_refused_says_who_works_there(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_flat(tmp_path, 1)
    (coordinator.data / REGISTRY).write_text(json.dumps({"repository": str(made.repository)}))
    with RunLock(made.repository / ".git/coordinator", "first"):
        subprocess.run(
            [sys.executable, "-c", REFUSED, str(made.repository)],
            env=coordinator.environment(), capture_output=True, check=True, timeout=300,
        )  # fmt: skip
        (run,) = list_runs(coordinator, made.repository)
    assert (run["state_type"], run["state_name"]) == ("CANCELLED", "Aborted")
    assert run["state"]["message"].startswith("busy: ")
    assert f"run first (process {os.getpid()} on {socket.gethostname()}" in run["state"]["message"]


def test_marks_are_read_as_they_were_written_also_by_releases_that_wrote_tags() -> None:
    for origin in (find_own_origin(), Origin("a:b", 1, 2)):
        marks = Marks(origin, RepositoryId("/of:a/person#1/.git", 0x2F))
        assert read_marks(make_flow_run(labels=dict(marks.labels))) == marks
        dated = replace(marks, marked=1795697163.25)
        assert read_marks(make_flow_run(labels=dict(dated.labels))) == dated
        unnamed = replace(marks, origin=replace(origin, machine=""))
        assert read_marks(make_flow_run(tags=list_old_tags(marks))) == unnamed


@pytest.mark.parametrize("tag", ["process:a:b:c", "process:1:2", "process:a:-1:2", "process:a:1:2:", ""])
def test_tag_that_no_release_wrote_is_no_mark(tag: str) -> None:
    assert read_marks(make_flow_run(tags=[tag, "repository:/a#1"])) is None


@pytest.mark.parametrize("name", [*Marks(Origin("a", 1, 2), RepositoryId("b", 3)).labels])
def test_marks_of_which_a_part_is_missing_or_changed_are_none(name: str) -> None:
    labels = dict(Marks(Origin("a", 1, 2), RepositoryId("b", 3)).labels)
    assert read_marks(make_flow_run(labels={**labels, name: 1.5})) is None
    del labels[name]
    assert read_marks(make_flow_run(labels=labels)) is None


def make_flow_run(*, labels: Mapping[str, Any] | None = None, tags: Sequence[str] = ()) -> FlowRun:
    return FlowRun(flow_id=uuid4(), labels=dict(labels or {}), tags=list(tags))
