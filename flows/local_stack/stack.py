"""Keeps the parts of `coordinator up` together: prepares the server, keeps a worker running, and watches both."""

import fcntl
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

import httpx

from flows.data_directory import data_dir, list_repositories
from flows.local_stack.session_workers import describe_session_worker
from flows.local_stack.waiting_runs import WaitingRuns, WorkerState, now_utc
from flows.local_stack.worker_process import WorkerProcess, describe_graph_worker
from flows.prefect_api import ask
from flows.prefect_server import Server
from tasks_lib.errors import CoordinatorError, SystemFailure

TICK_SECONDS = 1.0
LOOK_SECONDS = 5.0
MISSES = 6
"""How many health checks in a row a busy server may miss."""
BESIDE = (
    "Another `coordinator up` on this machine already runs the worker. This one keeps the server running, and its own "
    "worker starts if the other one ends."
)


@dataclass(frozen=True, slots=True)
class StackOptions:
    """`pool` is the work pool; with `has_worker`, runs are executed here, at most `limit` at a time.

    `spokes` is the number of workers for sessions.
    """

    pool: str
    limit: int
    has_worker: bool = True
    spokes: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """What to print once the server is prepared, and the shell command that starts another worker on this machine."""

    lines: tuple[str, ...]
    worker_command: str


class LocalStack:
    """What runs beside the server.

    `settings` are the `PREFECT_*` variables with which Prefect reaches it, `prepare` makes what runs need there, and
    `tell` prints a line for the user.
    """

    def __init__(
        self,
        server: Server,
        settings: Mapping[str, str],
        options: StackOptions,
        prepare: Callable[[], Prepared],
        tell: Callable[[str], None],
    ) -> None:
        self._server = server
        self._options = options
        self._make = prepare
        self._tell = tell
        graph_worker = describe_graph_worker(options.pool, options.limit, is_ours=server.is_ours)
        self._worker = WorkerProcess(graph_worker, settings, tell)
        self._session_workers = [
            WorkerProcess(describe_session_worker(number), settings, tell) for number in range(1, options.spokes + 1)
        ]
        self._lock: IO[bytes] | None = None
        self._repositories: Mapping[str, Path] = {}
        self._command = ""
        self._missed = 0
        self._is_lost = False

    @contextmanager
    def running(self) -> Generator[None]:
        """Run a worker, unless another `coordinator up` does, and prepare the server; drain the worker at the end."""
        try:
            self._keep_worker()
            if self._options.has_worker and self._lock is None:
                self._tell(BESIDE)
            self._prepare()
            yield
        finally:
            self._worker.drain()
            for worker in self._session_workers:
                worker.drain()
            if self._lock is not None:
                self._lock.close()

    def watch(self) -> None:
        """Look after worker, server and waiting runs until a signal. Raises SystemFailure when our server is gone."""
        next_look = time.monotonic() + LOOK_SECONDS
        with ask(self._server.api, LOOK_SECONDS) as client:
            waiting = WaitingRuns(client, self._options.pool, self._tell)
            while True:
                time.sleep(TICK_SECONDS)
                self._keep_worker()
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + LOOK_SECONDS
                    self._check_server(client, waiting)

    def _keep_worker(self) -> None:
        if not (self._options.has_worker or self._session_workers):
            return
        if self._lock is None:
            self._lock = take_lock(lock_path(self._server))
        if self._lock is not None:
            for worker in (*([self._worker] if self._options.has_worker else []), *self._session_workers):
                worker.keep_running()

    def _prepare(self) -> None:
        self._repositories = list_repositories()
        prepared = self._make()
        self._command = prepared.worker_command
        for line in prepared.lines:
            self._tell(line)

    def _check_server(self, client: httpx.Client, waiting: WaitingRuns) -> None:
        try:
            client.get("health").raise_for_status()
            self._note_answer()
            if list_repositories() != self._repositories:
                self._prepare()
            waiting.report(self._describe_worker(), now_utc())
        except (httpx.HTTPError, CoordinatorError) as error:
            self._note_silence(error)

    def _describe_worker(self) -> WorkerState:
        has_worker = self._options.has_worker and self._lock is not None
        return WorkerState(has_worker, self._worker.is_running, self._options.limit, self._command)

    def _note_answer(self) -> None:
        self._missed = 0
        if self._is_lost:
            self._is_lost = False
            self._tell(f"The Prefect server at {self._server.ui} answers again.")

    def _note_silence(self, error: Exception) -> None:
        """Give up coordinator's own server after a while, but wait for one of the user's."""
        self._missed += 1
        if self._missed < MISSES or self._is_lost:
            return
        if self._server.is_ours:
            raise SystemFailure(
                f"the Prefect server at {self._server.ui} stopped answering; run `coordinator up` to restart it"
            )
        self._is_lost = True
        self._tell(f"The Prefect server at {self._server.ui} does not answer ({error}). No run starts until it does.")


def lock_path(server: Server) -> Path:
    """The lock that the `coordinator up` with a worker for `server` holds."""
    mark = "" if server.is_ours else f"-{sha256(server.api.encode()).hexdigest()[:8]}"
    return data_dir() / "prefect" / f"worker{mark}.lock"


def take_lock(path: Path) -> IO[bytes] | None:
    """Take the lock, until the returned file is closed; None if another process has it."""
    path.parent.mkdir(exist_ok=True)
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
