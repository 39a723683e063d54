"""Speaking to a running graph from another terminal: messages, aborts, cancellations, and what Prefect is told."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checker import Meant, check, snapshot_user_state
from coordinator_host import Started
from e2e.checkout_deployments import working
from e2e.conftest import Coordinator, ask_until, read_until
from e2e.test_interrupt import status_of, wait_for_end
from e2e.test_whole_runs import find_run, make_flat
from generated_graphs import Made

from tasks_lib.git.repository_lock import RunLock
from tasks_lib.runtime.status_board import Board, RunView, now_text

pytestmark = pytest.mark.xdist_group("prefect, with workers")
GATE = "gate"
Start = Callable[[Made, int], Started]


def make_gated(directory: Path, nodes: int, gated: int) -> Made:
    """A repository of `nodes` flat nodes; the sessions of the first `gated` go on until `open_gate`."""
    made = make_flat(directory, nodes)
    for number in range(nodes):
        made.behave(f"flat-{number}", seconds=0.0)
    for number in range(gated):
        made.behave(f"flat-{number}", meet=GATE, meet_seconds=300)
    return made


def open_gate(made: Made) -> None:
    """Let every session that waits go on: it looks for a session of that name in the journal."""
    line = json.dumps({"id": GATE, "event": "open", "time": 0.0})
    descriptor = os.open(made.journal, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def count_starts(made: Made) -> int:
    """How many turns have begun."""
    return sum(1 for line in made.read_journal() if line["event"] == "start")


@pytest.fixture
def start(coordinator: Coordinator) -> Iterator[Start]:
    """Starts a run, and waits until some of its sessions have begun; what is left of it afterwards is ended."""
    processes: list[Started] = []

    def begin(made: Made, sessions: int) -> Started:
        process = coordinator.start("run", made.repository)
        processes.append(process)
        ask_until(lambda: process.poll() is not None or count_starts(made) >= sessions, bool)
        assert process.poll() is None, process.communicate()[0]
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait()


def done(nodes: int) -> dict[str, str]:
    return {f"flat-{number}": "completed" for number in range(nodes)}


def post_input(coordinator: Coordinator, run: str, key: str, value: str) -> None:
    coordinator.ask(f"flow_runs/{run}/input", {"key": key, "value": value})


def count_inputs(coordinator: Coordinator, run: str) -> int:
    body = {"prefix": "coordinator-", "limit": 100}
    return len(coordinator.ask(f"flow_runs/{run}/input/filter", body))


def test_message_is_in_the_next_prompt_and_what_is_not_a_request_is_ignored(
    coordinator: Coordinator, start: Start, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 2, gated=2)
    process = start(made, 2)
    run = find_run(made)
    for number, value in enumerate(("no json", "[]", '{"wish": "run", "text": "rm"}', '{"wish": "message"}')):
        post_input(coordinator, run, f"coordinator-message-{number}", value)
    post_input(coordinator, run, "of-somebody-else", "1")
    post_input(coordinator, run, "coordinator-message-late", '{"wish": "stop", "until": 1.0}')

    told = coordinator.run("message", "flat-0", "Prefer", "-- blue --", "--repo", made.repository)
    unknown = coordinator.run("message", "flat-00", "Hello", "--repo", made.repository, "--json")
    open_gate(made)
    output, _ = process.communicate(timeout=120)

    assert told[0] == 0, told[1]
    assert "flat-0" in told[1]
    answer = json.loads(unknown[1])["answers"][0]
    assert (unknown[0], answer["is_done"], "Did you mean" in answer["sentence"]) == (1, False, True)
    assert process.returncode == 0, output
    starts = [line for line in made.read_journal() if line["event"] == "start"]
    said = [(line["id"], line["turn"]) for line in starts if "Prefer -- blue --" in line["prompt_start"]]
    assert said == [("flat-0", 2)]
    assert count_inputs(coordinator, run) == 0


def test_abort_of_one_node_keeps_its_work_and_lets_the_others_land(
    coordinator: Coordinator, start: Start, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 3, gated=1)
    before = snapshot_user_state(made.repository)
    process = start(made, 3)

    told = coordinator.run("abort", "flat-0", "--repo", made.repository)
    output, _ = process.communicate(timeout=120)

    assert told[0] == 0, told[1]
    assert process.returncode == 1, output
    assert [status_of(made, f"flat-{number}") for number in range(3)] == ["pending", "completed", "completed"]
    open_gate(made)
    code, output = coordinator.run("run", made.repository)
    assert code == 0, output
    assert check(made.repository, before=before, meant=Meant(done(3), made.verify)) == []


def test_node_that_waits_for_its_next_attempt_can_be_aborted(
    coordinator: Coordinator, start: Start, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 1, gated=0)
    made.behave("flat-0", exit_status=3)
    settings = made.repository / "coordinator.yaml"
    text = settings.read_text(encoding="utf-8").replace("delay_seconds: 0", "delay_seconds: 250")
    settings.write_text(text, encoding="utf-8")
    process = start(made, 1)
    ask_until(made.read_journal, lambda lines: any(line["event"] == "end" for line in lines))

    told = coordinator.run("abort", "flat-0", "--repo", made.repository)
    output, _ = process.communicate(timeout=120)

    assert told[0] == 0, told[1]
    assert process.returncode == 1, output
    assert "stopped on request" in output


def test_abort_of_all_stops_the_run_and_running_again_finishes(
    coordinator: Coordinator, start: Start, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 3, gated=3)
    before = snapshot_user_state(made.repository)
    process = start(made, 3)

    told = coordinator.run("abort", "--all", "--repo", made.repository)
    output, _ = process.communicate(timeout=120)

    assert told[0] == 0, told[1]
    assert process.returncode == 130, output
    open_gate(made)
    code, output = coordinator.run("run", made.repository)
    assert code == 0, output
    assert check(made.repository, before=before, meant=Meant(done(3), made.verify)) == []


def test_run_that_is_told_to_start_no_more_nodes_lands_those_in_progress(
    coordinator: Coordinator, start: Start, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 2, gated=1)
    process = start(made, 2)

    told = coordinator.run("abort", "--all", "--policy", "continue-running", "--repo", made.repository)
    open_gate(made)
    output, _ = process.communicate(timeout=120)

    assert (told[0], "starts no more nodes" in told[1]) == (0, True), told[1]
    assert process.returncode == 0, output
    assert "Another terminal requested that no more nodes are started" in output


@pytest.mark.parametrize("state", ["CANCELLING", "CANCELLED"])
def test_cancelling_a_run_of_the_command_line_in_prefect_stops_it_gently(
    coordinator: Coordinator, start: Start, tmp_path: Path, state: str
) -> None:
    made = make_gated(tmp_path, 1, gated=1)
    process = start(made, 1)
    run = find_run(made)

    coordinator.ask(f"flow_runs/{run}/set_state", {"state": {"type": state}})
    output, _ = process.communicate(timeout=120)

    assert process.returncode == 130, output
    assert "cancelled in Prefect" in output
    flow_run = coordinator.ask(f"flow_runs/{run}")
    assert flow_run["state_type"] == "CANCELLED"
    open_gate(made)
    assert coordinator.run("run", made.repository)[0] == 0


def test_message_that_nobody_hears_is_taken_back(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_flat(tmp_path, 1)
    flow = coordinator.ask("flows/", {"name": "deaf"})["id"]
    run = coordinator.ask("flow_runs/", {"flow_id": flow})["id"]
    state = made.repository / ".git" / "coordinator"
    state.mkdir()
    Board(RunView(run, "main", now_text(), api=coordinator.api), state / "run.json").write()

    with RunLock(state, run):
        code, output = coordinator.run("message", "flat-0", "Hello", "--repo", made.repository)

    assert (code, "the request was not read and was withdrawn" in output) == (1, True), output
    assert count_inputs(coordinator, run) == 0


def test_run_of_a_worker_hears_messages_and_aborts(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 2, gated=2)
    assert coordinator.run("init", made.repository)[0] == 0
    with working(coordinator) as deployment:
        create = f"deployments/{deployment}/create_flow_run"
        parameters = {"parameters": {"options": {"repository": str(made.repository)}}}
        run = coordinator.ask(create, parameters)["id"]
        ask_until(lambda: count_starts(made), lambda number: number >= 2)

        told = coordinator.run("message", "flat-0", "Hello", "--repo", made.repository, "--json")
        aborted = coordinator.run("abort", "flat-1", "--repo", made.repository)
        stopped = coordinator.run("abort", "--all", "--repo", made.repository)
        state = wait_for_end(coordinator, run)

    assert (told[0], aborted[0], stopped[0]) == (0, 0, 0), (told, aborted, stopped)
    assert json.loads(told[1])["run"] == run
    assert (state["type"], state["name"]) == ("CANCELLED", "Aborted")
    assert read_events(coordinator, run)[-1]["event"] == "coordinator.run.ended"


def read_events(coordinator: Coordinator, run: str) -> list[dict[str, Any]]:
    """The events of a run, oldest first, once its end is among them: the server writes them down with a delay."""
    body = {
        "limit": 50,
        "filter": {"event": {"prefix": ["coordinator."]}, "any_resource": {"id": [f"prefect.flow-run.{run}"]},
                   "order": "ASC"},
    }  # fmt: skip

    def read() -> list[dict[str, Any]]:
        return coordinator.ask("events/filter", body)["events"]

    return ask_until(read, lambda found: any(one["event"] == "coordinator.run.ended" for one in found))


def test_prefect_is_told_what_happens_and_shows_the_sessions(
    coordinator: Coordinator, start: Start, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 2, gated=1)
    made.behave("flat-1", block_with="notify")
    process = start(made, 2)
    run = find_run(made)
    body = {"flow_runs": {"id": {"any_": [run]}}, "artifacts": {"key": {"any_": ["coordinator-sessions"]}}}

    def read_tables() -> list[dict[str, Any]]:
        return coordinator.ask("artifacts/filter", body)

    ask_until(read_tables, bool)
    open_gate(made)
    output, _ = process.communicate(timeout=120)

    assert process.returncode == 1, output
    tables = read_tables()
    assert len(tables) == 1
    rows = json.loads(tables[0]["data"])
    # What a person has to look at comes first.
    assert [(row["node"], row["stage"]) for row in rows] == [("flat-1", "Blocked"), ("flat-0", "Merged")]
    assert {row["machine"] for row in rows} == {socket.gethostname()}
    assert all(row["role"] and row["active"] for row in rows)
    assert tables[0]["description"] == "1 of 3 nodes completed, 1 blocked, 1 waiting"
    events = read_events(coordinator, run)
    names = [one["event"].removeprefix("coordinator.") for one in events]
    assert (names[0], names[-1]) == ("run.started", "run.ended")
    first = [one["event"] for one in events if one["payload"].get("id") == "flat-0"]
    first = [event for event in first if event != "coordinator.node.waited"]  # Only on a busy machine.
    wanted = ("node.started", "session.prompted", "session.turned", "merge.queued", "merge.verifying", "node.merged")
    assert first == [f"coordinator.{name}" for name in wanted]
    blocked = next(one for one in events if one["event"] == "coordinator.node.blocked")
    assert (blocked["payload"]["id"], bool(blocked["payload"]["reason"])) == ("flat-1", True)


def test_log_that_is_followed_ends_with_the_run(coordinator: Coordinator, start: Start, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 1, gated=1)
    process = start(made, 1)
    following = coordinator.start("logs", "flat-0", "--follow", "--repo", made.repository)
    seen = read_until(following, "==>")

    def attach() -> tuple[int, str]:
        return coordinator.run("attach", "flat-0", "--repo", made.repository)

    # What a run shows of its nodes is written twice a second, so that the log can be there earlier.
    attached = ask_until(attach, lambda told: "has no session yet" not in told[1])
    open_gate(made)
    output, _ = process.communicate(timeout=120)
    rest, _ = following.communicate(timeout=300)

    assert (process.returncode, following.returncode) == (0, 0), output + seen + rest
    assert "Did flat-0" in rest
    assert (attached[0], "coordinator logs flat-0" in attached[1]) == (2, True), attached[1]
    assert "session-1" in coordinator.run("logs", "flat-0", "--list", "--repo", made.repository)[1]
    assert coordinator.run("logs", "flat-0", "--verify", "--repo", made.repository)[0] == 0
