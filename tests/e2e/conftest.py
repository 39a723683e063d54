"""One real Prefect server for all end-to-end tests, and the command line run as a person runs it."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import httpx
import pytest
from user_isolation import without_prefect

from flows.prefect_server import LOOPBACK, Child, end_child, find_free_port, start_child

T = TypeVar("T")
RUN_SECONDS = 300
"""A generous bound for one run; nothing waits for it when all goes well."""
BUSY = HTTPStatus.SERVICE_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Coordinator:
    """Runs `coordinator` against one server; `data` is its data directory."""

    data: Path
    api: str

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        own = {"COORDINATOR_DATA_DIR": str(self.data), "PREFECT_API_URL": self.api, "PREFECT_HOME": str(self.data)}
        return without_prefect(os.environ) | {name: value for name, value in own.items() if value} | dict(extra or {})

    def ask(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        return ask_api(self.api, path, body)

    def start(self, *arguments: str | Path, extra: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
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
        return process.returncode, output


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


def ask_api(api: str, path: str, body: Mapping[str, object] | None = None) -> Any:
    """What a server answers, asked again while it says that its database is locked, as Prefect's own client does."""
    method = "GET" if body is None else "POST"
    answer = ask_until(
        lambda: httpx.request(method, f"{api}/{path}", json=body, timeout=60),
        lambda found: found.status_code != BUSY,
    )
    return answer.raise_for_status().json()


def copy_database(server: Child, path: Path) -> None:
    """Copy the database of `server`, which runs: a server that finds one starts in half the time, its tables are made."""
    process = server.process()
    assert process is not None
    with (
        closing(sqlite3.connect(Path(process.environ()["PREFECT_HOME"]) / "prefect.db")) as source,
        closing(sqlite3.connect(path)) as target,
    ):
        source.backup(target)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A Prefect server for the whole session."""
    home = tmp_path_factory.mktemp("prefect")
    child = start_child(home, find_free_port())
    yield child
    end_child(child)


@pytest.fixture
def coordinator(server: Child, tmp_path: Path) -> Coordinator:
    data = tmp_path / "data"
    data.mkdir()
    return Coordinator(data, f"http://{LOOPBACK}:{server.port}/api")


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    """What `process` prints up to the line that holds `words`."""
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"it ended without saying {words!r}:\n{seen}")
