"""`up`: the server that runs until it gets a signal."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from cli.test_cli_history import answering
from cli_fixtures import Call, UserRepository, task_text
from running_processes import list_running

from flows.cli.commands.up_port import PORTS, choose_port
from flows.prefect_cleanup import SERVER_ENDED
from flows.prefect_server import find_free_port, start_child
from flows.server_settings import find_package, find_ui_settings
from flows.server_sharing import RECORD, Child, read_running

pytestmark = pytest.mark.xdist_group("up")


@pytest.fixture(scope="module")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data directory for all tests here."""
    return tmp_path_factory.mktemp("up")


@pytest.fixture(autouse=True)
def use_shared_data(shared_data: Path, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COORDINATOR_DATA_DIR", str(shared_data))


@contextmanager
def up(*options: str, number: signal.Signals = signal.SIGTERM) -> Generator["tuple[subprocess.Popen[str], str]"]:
    """Start `coordinator up`; when it is ready, yield it with the address it prints. End it afterwards if it runs."""
    command = [sys.executable, "-u", "-m", "flows.cli", "up", *options]
    process = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("Press Ctrl-C"):
                break
        link = re.search(r"http://\S+", said)
        assert link, said
        yield process, link[0]
    finally:
        process.send_signal(number)
        process.wait(60)


def test_up_serves_the_ui_until_it_is_ended_and_leaves_nothing(shared_data: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with up("--port", str(port), number=signal.SIGHUP) as (process, link):
        assert link == f"http://127.0.0.1:{port}"
        assert httpx.get(f"{link}/api/health", timeout=300).is_success
        children = psutil.Process(process.pid).children(recursive=True)
    assert process.returncode == 0
    assert children
    assert list_running(children) == []
    assert not (shared_data / "prefect" / "server.json").exists()


def test_run_with_nothing_to_do_ends_the_server_that_a_killed_coordinator_left(
    repo: UserRepository, call: Call
) -> None:
    repo.git.run("rm", "--quiet", "-r", "tasks")
    repo.commit(repo.tasks(task_text("base", status="completed")), "Have it all")
    with up("--port", "0") as (process, link):
        workers = [
            one for one in psutil.Process(process.pid).children() if "flows.local_stack.graph_worker" in one.cmdline()
        ]
        process.kill()
        process.wait(60)
        assert workers
        assert psutil.wait_procs(workers, 60)[1] == []
        assert httpx.get(f"{link}/api/health", timeout=300).is_success
        done = call("run", cwd=repo.top)
    assert (done.returncode, SERVER_ENDED in done.stdout) == (0, True), done.stdout + done.stderr
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{link}/api/health", timeout=300)


def test_ctrl_c_while_the_server_starts_says_that_nothing_was_started_and_leaves_nothing(
    repo: UserRepository, shared_data: Path
) -> None:
    repo.commit(repo.tasks(task_text("base")), "Have something to do")
    command = [sys.executable, "-u", "-m", "flows.cli", "run", str(repo.top)]
    process = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if line.startswith("Starting the Prefect server"):
            break
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=300)
    assert (process.returncode, said) == (130, "Ctrl-C: nothing was started.\n")
    assert not (shared_data / "prefect" / "server.json").exists()


def test_start_that_is_interrupted_once_the_server_is_recorded_leaves_neither(tmp_path: Path) -> None:
    started: list[Child | None] = []

    def interrupt() -> None:
        started.append(read_running(tmp_path))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start_child(tmp_path, find_free_port(), meanwhile=interrupt)
    (child,) = started
    assert child
    assert child.process() is None
    assert not (tmp_path / RECORD).exists()


def test_up_says_when_its_port_is_taken(tmp_path: Path, call: Call) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = call("up", "--port", str(taken.getsockname()[1]), cwd=tmp_path)
    assert (done.returncode, "--port" in done.stderr, len(done.stderr.splitlines())) == (2, True, 1)


def test_next_free_port_is_taken_and_said_if_none_was_asked_for() -> None:
    said: list[str] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        usual = int(taken.getsockname()[1])
        port = choose_port(None, said.append, usual)
    assert usual < port < usual + PORTS
    assert len(said) == 1
    assert f"process {os.getpid()}" in said[0]
    assert said[0].endswith(f"so the server uses port {port}.")


def test_what_has_a_port_is_named(tmp_path: Path, call: Call) -> None:
    with up("--port", "0") as (_, link):
        port = link.rpartition(":")[2]
        done = call("up", "--port", port, cwd=tmp_path, environment={"COORDINATOR_DATA_DIR": str(tmp_path / "other")})
        shared = subprocess.Popen(
            [sys.executable, "-u", "-m", "flows.cli", "up", "--port", "1"],
            env=dict(os.environ), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert shared.stdout
        said = shared.stdout.readline()
        shared.terminate()
        shared.communicate(timeout=300)
    assert done.returncode == 2
    assert f"coordinator's server for the data directory {os.environ['COORDINATOR_DATA_DIR']}" in done.stderr
    assert ("--port 1 has no effect" in said, link in said) == (True, True), said
    with answering(200, b"{}") as api:
        port = api.removesuffix("/api").rpartition(":")[2]
        done = call("up", "--port", port, cwd=tmp_path)
    assert (done.returncode, "another Prefect server" in done.stderr) == (2, True), done.stderr


def test_up_says_when_the_server_of_the_user_does_not_answer(tmp_path: Path, call: Call) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        api = f"http://127.0.0.1:{taken.getsockname()[1]}/api"
        done = call("up", cwd=tmp_path, environment={"PREFECT_API_URL": api})
    assert (done.returncode, api in done.stderr, "PREFECT_API_URL" in done.stderr) == (2, True, True), done.stderr


@pytest.mark.parametrize("command", ["run", "up", "doctor"])
def test_address_without_its_path_is_completed_in_the_message(repo: UserRepository, call: Call, command: str) -> None:
    with answering(404, b"") as api:
        address = api.removesuffix("/api")
        done = call(command, cwd=repo.top, environment={"PREFECT_API_URL": f"{address}/"})
    assert (done.returncode, f"did you mean {address}/api" in done.stdout + done.stderr) == (2, True), done


def test_ui_is_prepared_with_the_data_if_the_package_belongs_to_somebody_else(tmp_path: Path) -> None:
    assert find_ui_settings(tmp_path, find_package().parent) == {}
    assert find_package().name == "server"
    assert find_ui_settings(tmp_path, tmp_path / "not-writable") == {
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(tmp_path / "ui")
    }
