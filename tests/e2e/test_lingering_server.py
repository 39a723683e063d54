"""Prefect's server stays after a run for as long as was asked, is used by what begins meanwhile, and ends by itself."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from e2e.conftest import Coordinator, ask_until, read_until
from e2e.test_local_stack import READY
from e2e.test_messages import count_starts, make_gated, open_gate
from generated_graphs import Made

from flows import unused_server
from flows.prefect_cleanup import SERVER_ENDED
from flows.server_sharing import KEPT, RECORD, USERS_LOCK, Child, keep, read_running
from flows.unused_server import UnusedServer
from tasks_lib.process.files import find_unfinished

pytestmark = pytest.mark.xdist_group("up")
LINGER = "COORDINATOR_SERVER_LINGER_SECONDS"
FIRST = ("--only", "flat-0")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data directory for all tests here."""
    return tmp_path_factory.mktemp("lingering")


@pytest.fixture
def own(data: Path) -> Iterator[Coordinator]:
    """A coordinator with a server of its own, which is ended afterwards."""
    coordinator = Coordinator(data, "")
    yield coordinator
    code, said = coordinator.run("down", "--force")
    assert (code, read_running(data / "prefect")) == (0, None), said


def require_server(data: Path) -> Child:
    server = read_running(data / "prefect")
    assert server
    return server


def run_all(own: Coordinator, made: Made, seconds: str = "0", *options: str) -> str:
    code, said = own.run("run", made.repository, *options, extra={LINGER: seconds})
    assert code == 0, said
    return said


def test_next_run_uses_the_server_that_stays_until_down_ends_it(own: Coordinator, data: Path, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 2, gated=0)
    said = run_all(own, made, "600", *FIRST)
    server = require_server(data)
    assert f":{server.port}, stays for 10:00" in said
    assert "coordinator down" in said.replace("-m flows.cli", "")
    assert "ends in 9:" in own.run("doctor", made.repository)[1]
    assert f":{server.port}/" in own.run("status", made.repository)[1]
    nothing = run_all(own, made, "0", *FIRST)
    assert ("nothing to do" in nothing, SERVER_ENDED in nothing) == (True, False), nothing
    assert SERVER_ENDED not in own.run("cleanup", made.repository)[1]
    assert "Starting the Prefect server" not in run_all(own, made)
    assert require_server(data) == server, "a run that asks for nothing leaves what an earlier one asked for"
    code, ended = own.run("down")
    assert (code, f":{server.port}, which nothing used" in ended) == (0, True), ended


def test_server_ends_by_itself_and_leaves_nothing(own: Coordinator, data: Path, tmp_path: Path) -> None:
    run_all(own, make_gated(tmp_path, 1, gated=0), "1")
    ask_until(lambda: read_running(data / "prefect"), lambda server: server is None)
    home = data / "prefect"
    assert not (home / RECORD).exists()
    assert not (home / KEPT).exists()
    assert "it ends" in (home / "server.log").read_text(encoding="utf-8")


def test_run_after_a_lingering_server_was_killed_starts_another(own: Coordinator, data: Path, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 2, gated=0)
    run_all(own, made, "600", *FIRST)
    first = require_server(data)
    process = psutil.Process(first.pid)
    process.kill()
    psutil.wait_procs([process], 60)
    (data / "prefect" / "blocks.json.coordinator-left").touch()  # By one that was killed while it wrote this file.
    run_all(own, made, "600")
    assert require_server(data) != first
    assert find_unfinished(data / "prefect") == []


def test_run_that_is_killed_leaves_a_server_that_ends_when_an_earlier_run_has_asked_it_to(
    own: Coordinator, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    run_all(own, make_gated(tmp_path / "first", 1, gated=0), "600")
    server = require_server(data)
    made = make_gated(tmp_path, 1, gated=1)
    process = own.start("run", made.repository)
    ask_until(lambda: count_starts(made), bool)
    process.kill()
    process.wait()
    assert require_server(data) == server
    keep_until(data / "prefect", server, time.time())
    ask_until(lambda: read_running(data / "prefect"), lambda found: found is None)
    open_gate(made)
    run_all(own, made)


def keep_until(home: Path, server: Child, until: float) -> None:
    """Replace until when the server stays."""
    (home / KEPT).unlink(missing_ok=True)
    keep(home, server, until - time.time())


def test_up_replaces_a_server_that_nobody_uses_by_one_at_its_port(own: Coordinator, data: Path, tmp_path: Path) -> None:
    run_all(own, make_gated(tmp_path, 1, gated=0), "600")
    before = require_server(data)
    process = own.start("up", "--port", "0")
    read_until(process, READY)
    assert require_server(data) == before
    process.terminate()
    process.communicate(timeout=300)
    assert read_running(data / "prefect") is None, "a person who ends it wants it to be gone"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A server's home, with this process as its server."""
    place = tmp_path / "home"
    place.mkdir()
    return place


@pytest.fixture
def server(home: Path) -> Child:
    child = Child(os.getpid(), psutil.Process().create_time(), 1)
    (home / RECORD).write_text(f'{{"pid": {child.pid}, "started": {child.started}, "port": 1}}')
    return child


def test_server_is_over_only_while_nobody_can_begin_to_use_it(home: Path, server: Child) -> None:
    watched = UnusedServer(home, server)
    keep_until(home, server, time.time() - 1)
    with (home / USERS_LOCK).open("w") as user:
        fcntl.flock(user, fcntl.LOCK_SH)
        with ExitStack() as locks:
            assert not watched.is_over(locks)
    with ExitStack() as locks:
        assert watched.is_over(locks)
        with (home / USERS_LOCK).open("w") as user, pytest.raises(BlockingIOError):
            fcntl.flock(user, fcntl.LOCK_SH | fcntl.LOCK_NB)
    keep_until(home, server, time.time() + 600)
    with ExitStack() as locks:
        assert not watched.is_over(locks)


def test_server_that_was_abandoned_or_replaced_is_over(
    home: Path, server: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as locks:
        assert not UnusedServer(home, server).is_over(locks), "the next run may use it"
        monkeypatch.setattr(unused_server, "ABANDONED_SECONDS", 0.0)
    with ExitStack() as locks:
        assert UnusedServer(home, server).is_over(locks)
    monkeypatch.undo()
    with ExitStack() as locks:
        (home / RECORD).unlink()
        assert UnusedServer(home, server).is_over(locks)
