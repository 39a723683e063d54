"""One real Prefect server for all end-to-end tests, and the command line run as a person runs it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Any, TypeVar

import httpx
import pytest
from coordinator_host import CoordinatorHost, Started, open_host
from user_isolation import without_prefect

from flows.data_directory import DATA_VARIABLE
from flows.prefect_server import LOOPBACK, Child, end_child, find_free_port, start_child
from tasks_lib.process.http_clients import make_client

T = TypeVar("T")
ANSWER_SECONDS = 180
RUN_SECONDS = 300
"""A generous bound for one run; nothing waits for it when all goes well."""


@dataclass(frozen=True, slots=True)
class Coordinator:
    """Runs `coordinator` against one server; `data` is its data directory. `host`, if there is one, forks for each command."""

    data: Path
    api: str
    host: CoordinatorHost | None = None

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        own = {"COORDINATOR_DATA_DIR": str(self.data), "PREFECT_API_URL": self.api, "PREFECT_HOME": str(self.data)}
        return without_prefect(os.environ) | {name: value for name, value in own.items() if value} | dict(extra or {})

    def ask(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        return ask_api(self.api, path, body)

    def start(self, *arguments: str | Path, extra: Mapping[str, str] | None = None) -> Started:
        if self.host:
            return self.host.start([*map(str, arguments)], self.environment(extra))
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *map(str, arguments)],
            env=self.environment(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str | Path, extra: Mapping[str, str] | None = None) -> tuple[int, str]:
        """The exit code, and what was printed."""
        process = self.start(*arguments, extra=extra)
        output, _ = process.communicate(timeout=RUN_SECONDS)
        return process.wait(), output


def ask_until(ask: Callable[[], T], is_enough: Callable[[T], bool]) -> T:
    """Ask again until the answer is enough; the server records with a delay. Three minutes are generous.

    The longer this waits, the longer it pauses: each answer costs the server more than the question costs here.
    """
    pause, began = Event(), time.monotonic()
    while not is_enough(answer := ask()):
        waited = time.monotonic() - began
        assert waited < ANSWER_SECONDS, f"still {answer}"
        pause.wait(min(0.05 + waited / 10, 0.5))
    return answer


@cache
def connect(api: str) -> httpx.Client:
    """A client for all requests to one server: each new one would load all certificates of the system."""
    return make_client(api, 60)


def ask_api(api: str, path: str, body: Mapping[str, object] | None = None) -> Any:
    """What a server answers to a GET or, with a body, a POST."""
    return send_api(api, "GET" if body is None else "POST", path, body).json()


def send_api(api: str, method: str, path: str, body: object = None) -> httpx.Response:
    """What a server answers. Raises httpx.HTTPStatusError if it refuses."""
    return connect(api).request(method, f"/{path}", json=body).raise_for_status()


def start_server(home: Path, database: Mapping[str, str] = MappingProxyType({})) -> Child:
    """Start a server in `home`; it writes nothing to the default data directory of the user who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_VARIABLE, str(home / "coordinator"))
        return start_child(home, find_free_port(), database)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A Prefect server for the whole session. It is paused after a group of tests that use it: idle, it is not free."""
    child = start_server(tmp_path_factory.mktemp("prefect"))
    _servers.append(child.pid)
    yield child
    _signal_servers(signal.SIGCONT)
    _servers.clear()
    end_child(child)


_servers: list[int] = []
"""The process groups of the server that this process uses; at most one."""


def _signal_servers(number: signal.Signals) -> None:
    for group in _servers:
        with suppress(ProcessLookupError):
            os.killpg(group, number)


def _uses_server(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and "server" in item.fixturenames


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _uses_server(item):
        _signal_servers(signal.SIGCONT)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    if nextitem is not None and not _uses_server(nextitem):
        _signal_servers(signal.SIGSTOP)


@pytest.fixture(scope="session")
def host(server: Child, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorHost]:
    """A process that forks for each `Coordinator.run` against the server of the session."""
    place = tmp_path_factory.mktemp("host")
    with open_host(place, Coordinator(place, find_api(server)).environment()) as running:
        yield running


@pytest.fixture
def coordinator(server: Child, host: CoordinatorHost, tmp_path: Path) -> Coordinator:
    data = tmp_path / "data"
    data.mkdir()
    return Coordinator(data, find_api(server), host)


StartRun = Callable[[Path], Started]


@pytest.fixture
def start_run(coordinator: Coordinator) -> Iterator[StartRun]:
    """Starts a run of the repository at a path; what is left of it afterwards is ended."""
    processes: list[Started] = []

    def begin(top: Path) -> Started:
        processes.append(coordinator.start("run", top))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.wait()


def read_end(process: Started) -> tuple[int, str]:
    """The exit code of a process that ends, and what it printed."""
    output, _ = process.communicate(timeout=RUN_SECONDS)
    return process.wait(), output


def find_api(server: Child) -> str:
    return f"http://{LOOPBACK}:{server.port}/api"


def read_until(process: Started, words: str) -> str:
    """What `process` prints up to the line that holds `words`."""
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"it ended without saying {words!r}:\n{seen}")
