"""`coordinator up`: runs that are started in Prefect are executed, and Ctrl-C drains what is in progress."""

import json
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from coordinator_host import Started
from e2e.conftest import Coordinator, ask_until, read_until
from e2e.test_interrupt import status_of, wait_for_end
from e2e.test_messages import count_starts, make_gated, open_gate
from generated_graphs import Made, run_git
from running_processes import list_running

pytestmark = pytest.mark.xdist_group("up")
READY = "Press Ctrl-C to stop"
WORKER = "flows.local_stack.graph_worker"
END_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Up:
    """A `coordinator up` in progress; `said` is what it printed until it was ready."""

    process: Started
    said: str
    coordinator: Coordinator

    @property
    def port(self) -> int:
        return int(self.coordinator.api.removesuffix("/api").rpartition(":")[2])

    def find_worker(self) -> psutil.Process:
        """Its worker, once it has one."""
        return ask_until(self.list_workers, bool)[0]

    def list_workers(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for child in psutil.Process(self.process.pid).children():
            if child.status() != psutil.STATUS_ZOMBIE and WORKER in child.cmdline():
                found.append(child)
        return found

    def run(self, name: str, due: datetime | None = None) -> str:
        """Start the deployment of a repository as the UI's Quick run does, or plan a run; returns its id."""
        found = self.coordinator.ask(f"deployments/name/run-graph/{name}")
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due.isoformat()}} if due else None
        return str(self.coordinator.ask(f"deployments/{found['id']}/create_flow_run", {"state": state})["id"])

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        """Send a signal and wait; returns what was printed since."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=END_SECONDS)[0]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data directory for all tests here."""
    return tmp_path_factory.mktemp("stack")


@contextmanager
def up(data: Path, *options: str, api: str = "") -> Generator[Up]:
    """Start `coordinator up`, and yield it when it is ready; end it afterwards if it is still running."""
    own = Coordinator(data, api)
    process = own.start("up", "--port", "0", *options)
    try:
        said = read_until(process, READY)
        link = next(word for word in said.split() if word.startswith("http://"))
        yield Up(process, said, Coordinator(data, f"{link}/api"))
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=END_SECONDS)


def register(data: Path, made: Made) -> Made:
    code, output = Coordinator(data, "").run("init", made.repository)
    assert code == 0, output
    return made


@pytest.fixture
def gated(data: Path, tmp_path: Path) -> Made:
    """A registered repository of one node, whose session waits for `open_gate`."""
    return register(data, make_gated(tmp_path, 1, gated=1))


@pytest.fixture
def quick(data: Path, tmp_path: Path) -> Made:
    """A registered repository of one node, whose session ends at once."""
    return register(data, make_gated(tmp_path, 1, gated=0))


def name_of(data: Path, made: Made) -> str:
    """The name under which a repository is registered."""
    known: dict[str, str] = json.loads((data / "repositories.json").read_text(encoding="utf-8"))
    return next(name for name, place in known.items() if place == str(made.repository.resolve()))


def list_kept_work(made: Made) -> list[str]:
    """The worktrees that still hold work."""
    return sorted(path.name for path in (made.repository / ".worktrees" / "feat").glob("*"))


def test_run_from_the_ui_outlives_its_worker_which_is_replaced(
    coordinator: Coordinator, data: Path, gated: Made
) -> None:
    with up(data, api=coordinator.api) as stack:
        assert f"run-graph/{name_of(data, gated)}" in stack.said
        first = stack.find_worker()
        run = stack.run(name_of(data, gated))
        ask_until(lambda: count_starts(gated), bool)
        first.kill()
        said = read_until(stack.process, "restarted")
        second = stack.find_worker()
        open_gate(gated)
        state = wait_for_end(stack.coordinator, run)
        ended = stack.end()
    assert "signal 9" in said
    assert second.pid != first.pid
    assert (state["type"], status_of(gated, "flat-0")) == ("COMPLETED", "completed"), state
    assert stack.process.returncode == 0, ended


def test_ctrl_c_stops_sessions_with_their_work_kept_and_leaves_nothing(data: Path, gated: Made) -> None:
    with up(data) as stack:
        run = stack.run(name_of(data, gated))
        ask_until(lambda: count_starts(gated), bool)
        members = psutil.Process(stack.process.pid).children(recursive=True)
        ended = stack.end()
    assert stack.process.returncode == 0, ended
    assert "1 run stops its sessions" in ended
    assert list_running(members) == []
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", stack.port))
    assert list_kept_work(gated) == ["flat-0"]

    open_gate(gated)
    with up(data) as again:
        assert again.coordinator.ask(f"flow_runs/{run}")["state"]["name"] == "Aborted"
        assert wait_for_end(again.coordinator, again.run(name_of(data, gated)))["type"] == "COMPLETED"
    assert status_of(gated, "flat-0") == "completed"


def test_run_that_comes_while_another_works_says_which_and_is_in_the_history(
    coordinator: Coordinator, data: Path, gated: Made
) -> None:
    name = name_of(data, gated)
    with up(data, api=coordinator.api) as stack:
        first = stack.run(name)
        ask_until(lambda: count_starts(gated), bool)
        second = stack.run(name, due=datetime.now(UTC) + timedelta(seconds=2))
        refused = ask_until(
            lambda: stack.coordinator.ask(f"flow_runs/{second}"), lambda run: run["state"]["name"] == "Aborted"
        )
        history = json.loads(stack.coordinator.run("history", "--json", "--repo", gated.repository)[1])
        open_gate(gated)
        assert wait_for_end(stack.coordinator, first)["type"] == "COMPLETED"
    assert refused["name"] == name
    assert refused["end_time"] >= refused["expected_start_time"], "the first run may end until the second one is due"
    assert refused["state"]["message"].startswith("busy: ")
    assert f"/runs/flow-run/{first} was in progress" in refused["state"]["message"]
    assert {(run["id"], bool(run["started"])) for run in history["runs"]} == {(first, True), (second, True)}


def read_logs(coordinator: Coordinator, run: str) -> list[str]:
    body = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 50}
    return [line["message"] for line in coordinator.ask("logs/filter", body)]


def test_run_that_nobody_takes_says_so_until_a_second_up_takes_it(data: Path, quick: Made) -> None:
    with up(data, "--no-worker") as without:
        run = without.run(name_of(data, quick))
        said = read_until(without.process, "is due, but waits")
        logs = ask_until(lambda: read_logs(without.coordinator, run), bool)
        with up(data) as beside, up(data) as third:
            state = wait_for_end(beside.coordinator, run)
            assert beside.port == without.port == third.port
            assert third.list_workers() == []
            told = third.said
            left = third.end()
    assert "worker start" in said
    assert any("no worker" in line for line in logs), logs
    assert state["type"] == "COMPLETED", state
    assert "Another `coordinator up`" in told
    assert "continues" in left


def test_up_works_with_a_server_of_the_user(coordinator: Coordinator, data: Path, quick: Made) -> None:
    with up(data, api=coordinator.api) as stack:
        assert stack.coordinator.api == coordinator.api
        assert not (data / "prefect" / "server.json").exists()
        environment: dict[str, Any] = stack.find_worker().environ()
        state = wait_for_end(coordinator, stack.run(name_of(data, quick)))
        ended = stack.end()
    assert state["type"] == "COMPLETED", state
    assert stack.process.returncode == 0, ended
    assert environment["PREFECT_API_URL"] == coordinator.api
    assert environment["DO_NOT_TRACK"] == "1"


def test_workers_for_sessions_run_beside_the_stack(coordinator: Coordinator, data: Path, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 2, gated=0)
    remote = tmp_path / "shared.git"
    run_git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    run_git(made.repository, "remote", "add", "shared", str(remote))
    with (made.repository / "coordinator.yaml").open("a", encoding="utf-8") as settings:
        settings.write("spokes: {remote: shared, prefer: only}\n")
    run_git(made.repository, "commit", "--quiet", "--all", "--message", "Run sessions elsewhere")
    run_git(made.repository, "push", "--quiet", "shared", "HEAD:main")
    register(data, made)
    with up(data, "--spokes", "1", api=coordinator.api) as stack:
        state = wait_for_end(stack.coordinator, stack.run(name_of(data, made)))
        sessions = stack.coordinator.ask("flow_runs/filter", {"flows": {"name": {"any_": ["run-session"]}}})
        ended = stack.end()
    assert (state["type"], status_of(made, "flat-0"), status_of(made, "flat-1")) == (
        "COMPLETED",
        "completed",
        "completed",
    )
    assert {session["name"].partition(" on ")[0] for session in sessions} == {"flat-0", "flat-1"}
    assert [session["state"]["message"] for session in sessions if session["state_name"] != "Completed"] == []
    assert run_git(remote, "for-each-ref", "refs/coordinator") == ""
    assert stack.process.returncode == 0, ended
