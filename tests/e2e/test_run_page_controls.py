"""The buttons of a run's page: Suspend, Resume, Retry and Cancel, for runs of workers and of terminals."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checker import Meant, check, snapshot_user_state
from checker_traces import text
from coordinator_host import CoordinatorHost
from e2e.checkout_deployments import working
from e2e.conftest import Coordinator, ask_until, find_api
from e2e.test_interrupt import status_of, wait_for_end
from e2e.test_messages import Start, count_starts, done, make_gated, open_gate, start
from e2e.test_whole_runs import find_run, read_graph
from generated_graphs import DECISION, Made

from flows.prefect_server import Child
from tasks_lib.git.repository_lock import read_holder

__all__ = ["start"]
pytestmark = pytest.mark.xdist_group("prefect, with workers")
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
SUSPEND = {"type": "PAUSED", "name": "Suspended", "state_details": {"pause_reschedule": True}}
"""What the buttons of Prefect's UI send; the UI forces every state but that of Retry."""
RETRY = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
CANCEL = {"type": "CANCELLING", "name": "Cancelling"}


class Deployed:
    """A worker, and the runs that it makes of the deployment."""

    def __init__(self, coordinator: Coordinator, deployment: str) -> None:
        self.coordinator: Coordinator = coordinator
        self._deployment = deployment

    def run(self, made: Made) -> str:
        """Start a run of the repository; returns the id of the flow run."""
        assert self.coordinator.run("init", made.repository)[0] == 0
        parameters = {"parameters": {"options": {"repository": str(made.repository)}}}
        return str(self.coordinator.ask(f"deployments/{self._deployment}/create_flow_run", parameters)["id"])

    def press(self, run: str, state: dict[str, Any], *, is_forced: bool = True) -> None:
        answer = self.coordinator.ask(f"flow_runs/{run}/set_state", {"state": state, "force": is_forced})
        assert answer["status"] == "ACCEPT", answer

    def read(self, run: str) -> dict[str, Any]:
        return self.coordinator.ask(f"flow_runs/{run}")["state"]


@pytest.fixture(scope="module")
def deployed(server: Child, host: CoordinatorHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    data = tmp_path_factory.mktemp("worker")
    coordinator = Coordinator(data, find_api(server), host)
    with working(coordinator) as deployment:
        yield Deployed(coordinator, deployment)


def wait_until_free(made: Made) -> None:
    """Wait until no process holds the repository: the state is set shortly before the process ends."""
    ask_until(lambda: read_holder(made.repository / ".git" / "coordinator"), lambda holder: holder is None)


def read_nodes(coordinator: Coordinator, run: str, least: int) -> list[tuple[str, str]]:
    """The name and state of each task run, the oldest first, once `least` are recorded and all have ended."""
    body = {"flow_runs": {"id": {"any_": [run]}}, "sort": "EXPECTED_START_TIME_ASC"}

    def read() -> list[dict[str, Any]]:
        return coordinator.ask("task_runs/filter", body)

    found = ask_until(read, lambda runs: len(runs) >= least and all(one["state_type"] in ENDS for one in runs))
    return [(one["name"], one["state_name"]) for one in found]


def test_suspended_run_of_a_worker_keeps_its_work_and_resume_continues_it(deployed: Deployed, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 3, gated=2)
    before = snapshot_user_state(made.repository)
    run = deployed.run(made)
    ask_until(lambda: count_starts(made), lambda number: number >= 2)

    deployed.press(run, SUSPEND)
    state = ask_until(lambda: deployed.read(run), lambda found: bool(found["message"]))
    wait_until_free(made)

    assert (state["type"], state["name"]) == ("PAUSED", "Suspended")
    assert "Resume here, or `coordinator run` in" in state["message"]
    assert (made.repository / ".worktrees/feat/flat-0").is_dir()
    ended = read_nodes(deployed.coordinator, run, 2)
    assert ("flat-0", "Aborted") in ended
    assert {name for _, name in ended} <= {"Aborted", "Merged"}
    open_gate(made)
    answer = deployed.coordinator.ask(f"flow_runs/{run}/resume", {})
    assert answer["status"] == "ACCEPT", answer
    assert wait_for_end(deployed.coordinator, run)["type"] == "COMPLETED"
    wait_until_free(made)
    assert check(made.repository, before=before, meant=Meant(done(3), made.verify)) == []
    assert set(list_attempts(made)) == {"1"}  # An interrupted attempt continues.


def test_resume_before_the_old_process_has_ended_waits_for_it_and_continues(deployed: Deployed, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 2, gated=1)
    made.behave("flat-0", deaf=True)  # So the old process waits for it, as it does for a merge that is being verified.
    be_patient(made)
    before = snapshot_user_state(made.repository)
    run = deployed.run(made)
    ask_until(lambda: count_starts(made), lambda number: number >= 2)
    old = read_holder(made.repository / ".git" / "coordinator")
    deployed.press(run, SUSPEND)
    log = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200}

    def read_log() -> str:
        return "\n".join(line["message"] for line in deployed.coordinator.ask("logs/filter", log))

    ask_until(read_log, lambda lines: "because it was paused in Prefect" in lines)
    answer = deployed.coordinator.ask(f"flow_runs/{run}/resume", {})
    assert answer["status"] == "ACCEPT", answer
    ask_until(read_log, lambda lines: "This run was resumed before" in lines)
    assert read_holder(made.repository / ".git" / "coordinator") == old
    open_gate(made)

    state = wait_for_end(deployed.coordinator, run)
    wait_until_free(made)

    assert state["type"] == "COMPLETED", state
    assert check(made.repository, before=before, meant=Meant(done(2), made.verify)) == []


def test_retry_of_a_failed_run_of_a_worker_continues_from_git(deployed: Deployed, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 3, gated=0)
    made.behave("flat-0", block_with="notify", block_until=DECISION)
    depend(made, "flat-2", "flat-0", "flat-1")
    run = deployed.run(made)
    state = wait_for_end(deployed.coordinator, run)
    wait_until_free(made)
    assert (state["type"], "To continue: Retry here, or `coordinator run` in" in state["message"]) == ("FAILED", True)
    complete_resolve_file(made, "flat-0")
    before = snapshot_user_state(made.repository)

    deployed.press(run, RETRY, is_forced=False)
    state = ask_until(lambda: deployed.read(run), lambda found: found["type"] == "COMPLETED")
    wait_until_free(made)

    assert "To continue" not in state["message"]
    shown = [node for node in read_nodes(deployed.coordinator, run, 5) if node[0].startswith("flat")]
    first = [("flat-0", "Blocked"), ("flat-1", "Merged"), ("flat-2", "Skipped")]
    assert sorted(shown) == sorted([*first, ("flat-0", "Merged"), ("flat-2", "Merged")])
    graph = read_graph(deployed.coordinator, run)
    assert {edge for edge in graph if edge[1] == "flat-2"} == {("flat-0", "flat-2"), ("flat-1", "flat-2")}
    assert list_attempts(made) == ["1", "2", "1"]
    everything = done(3) | {"resolve-flat-0-1": "completed"}
    assert check(made.repository, before=before, meant=Meant(everything, made.verify)) == []


def test_cancel_of_a_run_of_a_worker_stops_its_sessions_and_keeps_their_work(
    deployed: Deployed, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 2, gated=2)
    run = deployed.run(made)
    ask_until(lambda: count_starts(made), lambda number: number >= 2)

    deployed.press(run, CANCEL)
    state = wait_for_end(deployed.coordinator, run)
    wait_until_free(made)

    assert state["type"] == "CANCELLED", state
    assert (made.repository / ".worktrees/feat/flat-0").is_dir()
    assert set(read_nodes(deployed.coordinator, run, 2)) == {("flat-0", "Aborted"), ("flat-1", "Aborted")}
    open_gate(made)
    code, output = deployed.coordinator.run("run", made.repository)
    assert code == 0, output
    assert [status_of(made, f"flat-{number}") for number in range(2)] == ["completed", "completed"]


@pytest.mark.parametrize("name", ["Suspended", "Paused"])
def test_paused_run_of_a_terminal_ends_and_says_the_command(
    coordinator: Coordinator, start: Start, tmp_path: Path, name: str
) -> None:
    made = make_gated(tmp_path, 1, gated=1)
    process = start(made, 1)
    run = find_run(made)

    coordinator.ask(f"flow_runs/{run}/set_state", {"state": SUSPEND | {"name": name}, "force": True})
    output, _ = process.communicate(timeout=120)

    assert process.returncode == 130, output
    assert "paused in Prefect" in output
    state = coordinator.ask(f"flow_runs/{run}")["state"]
    assert (state["type"], state["name"]) == ("CANCELLED", "Aborted")
    assert state["message"].endswith(f"To continue: `coordinator run` in {made.repository.name}.")
    retried = coordinator.ask(f"flow_runs/{run}/set_state", {"state": RETRY})
    assert "deployment" in retried["details"]["reason"]  # Prefect refuses what nobody would run.


def be_patient(made: Made) -> None:
    """Let the run wait for its agents for as long as a test takes."""
    settings = made.repository / "coordinator.yaml"
    patient = settings.read_text(encoding="utf-8").replace("stop_seconds: 2", "stop_seconds: 600")
    settings.write_text(patient, encoding="utf-8")
    text(made.repository, "commit", "-qam", "Be patient")


def depend(made: Made, node: str, *prerequisites: str) -> None:
    """Let `node` depend on others."""
    file = made.repository / made.tasks_dir / f"{node}.md"
    wanted = f"depends_on: [{', '.join(prerequisites)}]"
    file.write_text(file.read_text(encoding="utf-8").replace("depends_on: []", wanted), encoding="utf-8")
    text(made.repository, "commit", "-qam", "Depend")


def list_attempts(made: Made) -> list[str]:
    """The numbers of the attempts that landed, the last to land first."""
    form = "--format=%(trailers:key=Attempt,valueonly)"
    return text(made.repository, "log", "--first-parent", "--merges", form, "main").split()


def complete_resolve_file(made: Made, node: str) -> None:
    """Decide what `node` is blocked by, as a person does."""
    file = made.repository / made.tasks_dir / f"resolve-{node}-1.md"
    file.write_text(file.read_text(encoding="utf-8").replace("status: pending", "status: completed"), encoding="utf-8")
    (made.repository / DECISION).parent.mkdir(exist_ok=True)
    (made.repository / DECISION).write_text("half up\n", encoding="utf-8")
    for arguments in (("add", "-A"), ("commit", "-qm", "Decide")):
        text(made.repository, *arguments)
