"""One real Prefect server for all end-to-end tests, and the command line run as a person runs it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
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


def ask_until(ask: Callable[[], T], is_enough: Callable[[T], bool], most: int = 1200) -> T:
    """Ask again until the answer is enough; the server records with a delay. A minute or more is generous."""
    pause = Event()
    answer = ask()
    for _ in range(most):
        if is_enough(answer):
            return answer
        pause.wait(0.1)
        answer = ask()
    raise AssertionError(f"still {answer}")


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
    """A Prefect server for the whole session."""
    child = start_server(tmp_path_factory.mktemp("prefect"))
    yield child
    end_child(child)


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
