"""Flow runs of a deployment, executed as a worker executes them: by Prefect's engine, in a process of its own."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import RUN_SECONDS, Coordinator, ask_until
from e2e.test_prefect_records import proxied
from e2e.test_stale_runs import DEAD, list_runs
from e2e.test_whole_runs import make_flat
from generated_graphs import Made

from flows.deployment_version import warn_of_other_release
from flows.flow_run_marks import Marks, Origin, find_own_marks, find_own_origin, find_repository_id
from flows.prefect_server import Child
from tasks_lib.git.repository_lock import RunLock

pytestmark = pytest.mark.xdist_group("prefect, with much waiting")
OWN = metadata.version("coordinator")
HASH = "0c2f9a4b6d8e1357f0a2b4c6d8e0f1a3"
COMMITS = ("54a13724", "61203457", "9c000012")
"""The beginnings of commits that are versions in Python's format too, as Prefect's own command writes them."""
OTHERS = {"0.0.1": "Make the deployment again: `coordinator deploy`.", "999.0": "Update coordinator on that worker"}


def deploy_version(coordinator: Coordinator, version: str) -> str:
    """Make the deployment of a release, and return its id."""
    flow = coordinator.ask("flows/", {"name": "run-graph"})["id"]
    body = {"name": f"of {version}", "flow_id": flow, "entrypoint": "flows.run_graph.run_graph", "version": version}
    return str(coordinator.ask("deployments/", body)["id"])


def create_run(coordinator: Coordinator, version: str, repository: str, **more: object) -> str:
    """Make a flow run of the deployment of a release, and return its id."""
    parameters = {"options": {"repository": repository}}
    body = {"parameters": parameters, "state": {"type": "PENDING"}, **more}
    found = coordinator.ask(f"deployments/{deploy_version(coordinator, version)}/create_flow_run", body)
    return str(found["id"])


def execute(coordinator: Coordinator, run: str) -> dict[str, Any]:
    """Execute a flow run; returns it as it is in Prefect afterwards."""
    subprocess.run(
        [sys.executable, "-m", "prefect.engine", run],
        env=coordinator.environment(), capture_output=True, check=False, timeout=RUN_SECONDS,
    )  # fmt: skip
    return coordinator.ask(f"flow_runs/{run}")


def read_log(coordinator: Coordinator, run: str, words: str) -> str:
    """The log of a flow run, once `words` are in it; the server gets it with a delay."""
    body = {"logs": {"flow_run_id": {"any_": [run]}}}

    def read() -> str:
        return "\n".join(line["message"] for line in coordinator.ask("logs/filter", body))

    return ask_until(read, lambda text: words in text)


def read_report(coordinator: Coordinator, run: str) -> str:
    found = coordinator.ask("artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}})
    return next(one["data"] for one in found if one["key"] == "coordinator-report")


def make_quick(directory: Path, coordinator: Coordinator) -> Made:
    """A registered repository of one node that takes no time."""
    made = make_flat(directory, 1)
    made.behave("flat-0", seconds=0.0)
    assert coordinator.run("init", made.repository)[0] == 0
    return made


def test_run_of_a_deployment_that_another_release_made_warns_in_its_log_and_report(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_quick(tmp_path, coordinator)
    run = create_run(coordinator, "0.0.1", str(made.repository))

    ended = execute(coordinator, run)

    assert ended["state_type"] == "COMPLETED", ended["state"]
    expected = (
        f"The deployment of this run is of coordinator 0.0.1, but its worker on {find_own_origin().host} has {OWN}"
    )
    log = read_log(coordinator, run, expected)
    assert (log.count(expected), OTHERS["0.0.1"] in log) == (1, True)
    assert expected in read_report(coordinator, run)


@pytest.mark.parametrize("version", OTHERS)
def test_warning_about_another_release_says_what_helps(version: str) -> None:
    said = warn_of_other_release(version)
    assert (f"coordinator {version}" in said, OTHERS[version] in said) == (True, True), said


@pytest.mark.parametrize("version", [None, "", OWN, HASH, *COMMITS, "my own"])
def test_same_release_or_what_is_not_a_release_is_no_reason_to_warn(version: str | None) -> None:
    assert warn_of_other_release(version) == ""


def test_deployed_run_that_meets_another_ends_aborted_and_starts_nothing(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_quick(tmp_path, coordinator)
    run = create_run(coordinator, OWN, str(made.repository))

    with RunLock(made.repository / ".git/coordinator", "first"):
        ended = execute(coordinator, run)

    state, own = ended["state"], find_own_origin()
    assert (state["type"], state["name"], ended["run_count"]) == ("CANCELLED", "Aborted", 1)
    assert state["message"].startswith("busy: ")
    assert f"run first (process {own.pid} on {own.host}" in state["message"]
    assert made.read_journal() == []


def test_page_of_a_deployed_run_says_every_fault_of_the_input(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_quick(tmp_path, coordinator)
    (made.repository / "coordinator.yaml").write_text("agnet: {}\nmax_sessions: none\n")

    state = execute(coordinator, create_run(coordinator, OWN, str(made.repository)))["state"]

    lines = state["message"].splitlines()
    assert (state["type"], lines[0], len(lines)) == ("FAILED", "The input is invalid; nothing was started.", 3)
    assert (lines[1].startswith("coordinator.yaml:1: "), lines[2].startswith("coordinator.yaml:2: ")) == (True, True)


def test_run_that_a_worker_is_about_to_retry_is_not_taken_for_dead(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_quick(tmp_path, coordinator)
    own = find_own_origin()
    dead = Marks(Origin(own.host, *DEAD, own.machine), find_repository_id(made.repository / ".git"))
    retried = create_run(coordinator, OWN, str(made.repository), labels=dead.labels)

    code, output = coordinator.run("cleanup", made.repository)

    assert (code, "Crashed" in output) == (0, False), output
    ended = execute(coordinator, retried)
    assert ended["state_type"] == "COMPLETED"
    marks = find_own_marks(made.repository / ".git")
    labels = dict(marks.labels)
    assert {name for name in labels if ended["labels"][name] != dead.labels[name]} == {
        "coordinator.pid", "coordinator.started",
    }  # fmt: skip


def take_the_lock(made: Made, held: list[RunLock]) -> None:
    held.append(RunLock(made.repository / ".git/coordinator", "first"))
    held[-1].__enter__()


def spoil_the_settings(made: Made, held: list[RunLock]) -> None:
    (made.repository / "coordinator.yaml").write_text("agnet: {}\n")


REFUSALS: dict[str, tuple[Callable[[Made, list[RunLock]], None], str, str]] = {
    "busy": (take_the_lock, "run first (process", "CANCELLED"),
    "bad input": (spoil_the_settings, "coordinator.yaml:1: ", "FAILED"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_command_whose_flow_refuses_to_start_exits_with_two_and_the_reason_alone(
    name: str, server: Child, coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_flat(tmp_path, 1)
    spoil, words, state_type = REFUSALS[name]
    held: list[RunLock] = []

    def spoil_before_the_flow(method: str, path: str) -> None:
        """The command has found nothing wrong by then, and asks Prefect for a flow run."""
        if (method, path) == ("POST", "/api/flow_runs/"):
            spoil(made, held)

    with proxied(server.port) as proxy:
        proxy.refuse = spoil_before_the_flow
        code, output = replace(coordinator, api=proxy.url).run("run", made.repository)
    for lock in held:
        lock.__exit__(None, None, None)

    (run,) = list_runs(coordinator, made.repository)
    assert (code, words in output, "Traceback" in output) == (2, True, False), output
    assert (run["state_type"], words in run["state"]["message"]) == (state_type, True)
    assert made.read_journal() == []
