"""A person resolves what blocks a node: in a run, by the command, and with the browser alone through a worker."""

import json
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from checker import Meant, check, snapshot_user_state
from coordinator_host import Started
from e2e.checkout_deployments import working
from e2e.conftest import Coordinator, ask_until
from e2e.test_interrupt import status_of, wait_for_end
from e2e.test_messages import count_starts, make_gated, open_gate, read_events
from e2e.test_whole_runs import find_run, make_flat
from generated_graphs import Made

pytestmark = pytest.mark.xdist_group("prefect, with workers")
DECISION = "decision.txt"


def make_blocked(directory: Path, nodes: int, gated: int) -> Made:
    """As `make_gated`, and the last node is blocked until there is a file `DECISION`."""
    made = make_gated(directory, nodes, gated)
    made.behave(f"flat-{nodes - 1}", block_with="notify", block_until=DECISION)
    return made


@contextmanager
def started(coordinator: Coordinator, made: Made) -> Generator[Started]:
    """A run whose first session has begun; it is ended if the block fails."""
    process = coordinator.start("run", made.repository)
    try:
        ask_until(lambda: process.poll() is not None or count_starts(made) >= 1, bool)
        yield process
    finally:
        process.kill()
        process.wait()


def decide(made: Made) -> str:
    """Commit the file that the blocked node needs, as a person does."""
    (made.repository / DECISION).write_text("half even\n", encoding="utf-8")
    for words in (("add", DECISION), ("commit", "-q", "-m", "Decide")):
        subprocess.run(["git", *words], cwd=made.repository, check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=made.repository, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def read_status(coordinator: Coordinator, made: Made, node: str) -> Any:
    found = json.loads(coordinator.run("status", made.repository, "--json")[1])
    return next((one["outcome"] for one in found["nodes"] if one["id"] == node), None)


def test_node_that_is_resolved_in_a_run_lands_in_it(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_blocked(tmp_path, 2, gated=1)
    before = snapshot_user_state(made.repository)
    with started(coordinator, made) as process:
        run = find_run(made)
        ask_until(lambda: read_status(coordinator, made, "flat-1"), lambda outcome: outcome == "Blocked")
        ask_until((made.repository / "tasks/resolve-flat-1-1.md").exists, bool)
        decided = decide(made)

        told = coordinator.run("resolve", "flat-1", "Half", "even.", "--repo", made.repository, "--json")
        refused = coordinator.run("resolve", "flat-11", "--repo", made.repository)
        ask_until(lambda: status_of(made, "flat-1"), lambda status: status == "completed")
        open_gate(made)
        output, _ = process.communicate(timeout=120)

    found = json.loads(told[1])
    assert (told[0], found["run"], found["wish"]) == (0, run, "resolve"), told
    assert "flat-1 can run again in this run" in found["answers"][0]["sentence"]
    assert (refused[0], 'Did you mean "flat-1"?' in refused[1]) == (1, True), refused
    assert process.returncode == 0, output
    statuses: dict[str, str] = dict.fromkeys(("flat-0", "flat-1", "resolve-flat-1-1"), "completed")
    assert check(made.repository, before=before, meant=Meant(statuses, made.verify, foreign=[decided])) == []
    [event] = [one for one in read_events(coordinator, run) if one["event"] == "coordinator.node.resolved"]
    assert (event["resource"]["coordinator.node"], event["resource"]["coordinator.in-run"]) == ("flat-1", "true")


def test_browser_is_enough_to_resolve_a_node_and_is_told_what_is_refused(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_flat(tmp_path, 1)
    made.behave("flat-0", block_with="notify", block_until=DECISION, seconds=0.0)
    before = snapshot_user_state(made.repository)
    assert coordinator.run("run", made.repository)[0] == 1
    decided = decide(made)
    assert coordinator.run("deploy", made.repository)[0] == 0

    def ask_flow(flow: str, **parameters: str) -> tuple[str, str]:
        deployment = coordinator.ask(f"deployments/name/{flow}/{flow}")["id"]
        given = {"parameters": {"repository": made.repository.name, **parameters}}
        state = wait_for_end(coordinator, coordinator.ask(f"deployments/{deployment}/create_flow_run", given)["id"])
        return str(state["type"]), str(state["message"])

    with working(coordinator):
        resolved = ask_flow("resolve-node", node="flat-0", text="Half even.")
        again = ask_flow("resolve-node", node="flat-0")
        told = ask_flow("message-node", node="flat-0", text="Hello")
        aborted = ask_flow("abort-node", node="flat-0")
    code, output = coordinator.run("run", made.repository)

    assert resolved[0] == "COMPLETED", resolved
    assert "resolve-flat-0-1 was completed on main" in resolved[1]
    assert (again[0], "already completed" in again[1]) == ("FAILED", True), again
    assert (told[0], "no run is in progress here" in told[1]) == ("FAILED", True), told
    assert (aborted[0], "no run is in progress here" in aborted[1]) == ("FAILED", True), aborted
    assert code == 0, output
    statuses = {"flat-0": "completed", "resolve-flat-0-1": "completed"}
    assert check(made.repository, before=before, meant=Meant(statuses, made.verify, foreign=[decided])) == []
