"""`coordinator up --detach` and `coordinator down`: a local stack that outlives its terminal, until it is ended."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from e2e.conftest import Coordinator, ask_api, ask_until, read_until
from e2e.terminals import read_terminal, start_in_terminal
from e2e.test_local_stack import READY, list_kept_work, name_of, register
from e2e.test_messages import count_starts, make_gated, open_gate
from running_processes import list_running

from flows.loopback import LOOPBACK
from flows.server_sharing import Child, read_running
from flows.server_users import User, find_detached, list_users
from tasks_lib.process.files import find_unfinished

pytestmark = pytest.mark.xdist_group("up")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data directory for all tests here."""
    return tmp_path_factory.mktemp("detached")


@pytest.fixture
def own(data: Path) -> Iterator[Coordinator]:
    """A coordinator with a server of its own; whatever a test leaves is ended."""
    coordinator = Coordinator(data, "")
    yield coordinator
    coordinator.run("down", "--force")
    if server := read_running(data / "prefect"):
        raise AssertionError(f"a server is left: {server}")


def require_user(data: Path) -> User:
    user = find_detached(data / "prefect")
    assert user
    return user


def require_server(data: Path) -> Child:
    server = read_running(data / "prefect")
    assert server
    return server


def test_detached_stack_outlives_its_terminal_until_down_ends_it(own: Coordinator, data: Path) -> None:
    process, terminal = start_in_terminal(own, "up", "--detach", "--port", "0")
    said = read_terminal(terminal)
    assert process.wait(60) == 0, said
    os.close(terminal)  # Sends HUP to what the terminal still has.
    server, user = require_server(data), require_user(data)
    assert os.getsid(user.pid) == user.pid
    assert f"http://{LOOPBACK}:{server.port}" in said
    assert "down" in said
    assert str(data / "prefect" / "up.log") in said
    assert ask_until(lambda: ask_api(f"http://{LOOPBACK}:{server.port}/api", "health"), bool) is True
    code, again = own.run("up", "--detach", "--max-runs", "3")
    assert (code, f"process {user.pid}" in again, "no effect" in again) == (0, True, True), again
    assert "in the background" in own.run("doctor")[1]
    members = [psutil.Process(user.pid), *psutil.Process(user.pid).children(recursive=True)]
    code, ended = own.run("down")
    assert (code, f":{server.port}" in ended) == (0, True), ended
    assert list_running(members) == []
    assert own.run("down") == (0, "Nothing runs in the background.\n")


def test_down_refuses_while_runs_are_in_progress_and_stops_them_if_forced(
    own: Coordinator, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    gated, other = (register(data, make_gated(place, 1, gated=1)) for place in (tmp_path, tmp_path / "other"))
    assert own.run("up", "--detach", "--port", "0")[0] == 0
    asked = Coordinator(data, f"{require_user(data).ui}/api")
    found = asked.ask(f"deployments/name/run-graph/{name_of(data, gated)}")
    asked.ask(f"deployments/{found['id']}/create_flow_run", {})
    process = own.start("run", other.repository)
    ask_until(lambda: count_starts(gated) and count_starts(other), bool)
    code, refused = own.run("down")
    assert (code, str(gated.repository) in refused, str(other.repository) in refused) == (2, True, True), refused
    assert require_user(data)
    code, ended = own.run("down", "--force")
    output, _ = process.communicate(timeout=300)
    assert (code, process.wait()) == (0, 130), ended + output
    assert read_running(data / "prefect") is None
    assert [list_kept_work(gated), list_kept_work(other)] == [["flat-0"], ["flat-0"]]
    for made in (gated, other):
        open_gate(made)
        assert own.run("run", made.repository)[0] == 0


def test_down_leaves_a_stack_in_a_terminal_to_its_terminal(own: Coordinator, data: Path) -> None:
    process = own.start("up", "--port", "0")
    read_until(process, READY)
    code, refused = own.run("down")
    assert (code, f"process {process.pid}" in refused, "Ctrl-C" in refused) == (2, True, True), refused
    assert own.run("up", "--detach")[0] == 0
    code, ended = own.run("down")
    assert (code, "continues" in ended, f"process {process.pid}" in ended) == (0, True, True), ended
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.wait() == 0, output


def test_detached_stack_that_cannot_start_says_why(own: Coordinator, data: Path) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        code, said = own.run("up", "--detach", "--port", str(taken.getsockname()[1]))
    assert (code, "--port" in said) == (2, True), said
    assert list_users(data / "prefect") == []


def kill_and_wait(pid: int) -> None:
    """Kill a process that is not a child of this one."""
    process = psutil.Process(pid)
    process.kill()
    psutil.wait_procs([process], 60)


def require_nothing_left(data: Path) -> None:
    home = data / "prefect"
    assert (read_running(home), list_users(home), [*(home / "users").iterdir()]) == (None, [], [])
    assert find_unfinished(home) == []


def test_detached_stack_that_is_killed_is_replaced_and_its_server_is_used(own: Coordinator, data: Path) -> None:
    assert own.run("up", "--detach", "--port", "0")[0] == 0
    server, user = require_server(data), require_user(data)
    kill_and_wait(user.pid)
    code, said = own.run("up", "--detach", "--port", str(server.port))
    assert (code, require_server(data)) == (0, server), said
    assert require_user(data).pid != user.pid
    kill_and_wait(require_user(data).pid)
    ask_until(lambda: "which nothing used" in own.run("down")[1], bool)  # Once the worker has ended, too.
    require_nothing_left(data)


def test_command_that_is_killed_while_it_starts_a_stack_leaves_one_that_can_be_used(
    own: Coordinator, data: Path
) -> None:
    process = own.start("up", "--detach", "--port", "0")
    ask_until(lambda: find_detached(data / "prefect"), bool)
    process.kill()
    process.wait()
    user = require_user(data)
    code, said = own.run("up", "--detach")
    assert (code, f"process {user.pid}" in said) == (0, True), said
    assert httpx.get(f"{user.ui or require_user(data).ui}/api/health").is_success
    assert own.run("down")[0] == 0
    require_nothing_left(data)


def test_down_that_is_killed_is_finished_by_the_next(own: Coordinator, data: Path, tmp_path: Path) -> None:
    assert own.run("up", "--detach", "--port", "0")[0] == 0
    process = own.start("down")
    read_until(process, "Waiting for")
    process.kill()
    process.wait()
    assert own.run("down")[0] == 0
    require_nothing_left(data)


def test_ctrl_c_while_a_stack_starts_in_the_background_ends_it(own: Coordinator, data: Path) -> None:
    process = own.start("up", "--detach", "--port", "0")
    ask_until(lambda: read_running(data / "prefect"), bool)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=300)
    assert (process.wait(), "nothing was started" in said) == (130, True), said
    require_nothing_left(data)
