"""Keeps a worker running as a child process: starts it, starts it again if it dies, and drains it at the end."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import psutil

from flows.data_directory import data_dir, own_directory
from flows.prefect_isolation import STEERING
from flows.termination_signals import on_signals
from tasks_lib.process.http_clients import bypass_loopback
from tasks_lib.process.python_command import python_command, python_environment
from tasks_lib.process.user_environment import user_environment

WORKER = "flows.local_stack.graph_worker"
LOG = "worker.log"
USERS_LOCK = "users.lock"
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
STEADY_SECONDS = 60.0
"""After how long a worker counts as working, so that the next pause is short again."""
LOG_TAIL_LINES = 5
LOOK_SECONDS = 0.2
DRAIN_SECONDS = 300.0
"""How long worker and runs may take to stop; the worker itself ends its runs a minute earlier."""
LEAVE_SECONDS = 20.0
"""How long they may take to end at once."""
_LEFT_OUT = (*STEERING, "PYTHON*", "VIRTUAL_ENV", "COORDINATOR_UP_*")
"""What steers Prefect or Python, and the password of the server's database."""
_QUIET = {
    # The run's own log is in Prefect; this goes into the worker's log file.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "WARNING",
    "PREFECT_LOGGING_COLORS": "false",
}


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """A worker: its `module` with `arguments`, its `log`, and the data directory `data` that it uses.

    `noun` is what it runs, in the singular.
    """

    module: str
    arguments: tuple[str, ...]
    log: Path
    data: Path
    noun: str = "run"


def describe_graph_worker(pool: str, limit: int, *, is_ours: bool) -> WorkerOptions:
    """The worker of runs: the pool it takes them from, and how many it runs at a time.

    `is_ours` says whether the server is coordinator's own, which then stays for as long as the worker uses it.
    """
    home = data_dir() / "prefect"
    held = ("--hold", str(home / USERS_LOCK)) if is_ours else ()
    arguments = ("--pool", pool, "--name", name_worker(), "--limit", str(limit), "--log", str(home / LOG), *held)
    return WorkerOptions(WORKER, arguments, home / LOG, data_dir())


def name_worker() -> str:
    """The worker's name in Prefect: the same at each start, so that the list of workers does not grow."""
    return f"coordinator-{socket.gethostname()}".replace("/", "-").replace("%", "-")


def make_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker, and so of its runs: what the user set, but nothing that steers Prefect or Python.

    Runs need the user's variables because agents, `setup` and `verify` get what `coordinator.yaml` allows of them.
    """
    theirs = user_environment()
    kept = {k: v for k, v in theirs.items() if not any(fnmatchcase(k.upper(), one) for one in _LEFT_OUT)}
    return {**bypass_loopback(kept), **python_environment(theirs, {}), **settings}


class WorkerProcess:
    """A worker that is kept running. `tell` prints a line for the user.

    `settings` are the `PREFECT_*` variables with which the worker and its runs reach the server.
    """

    def __init__(self, options: WorkerOptions, settings: Mapping[str, str], tell: Callable[[str], None]) -> None:
        self._options = options
        self._environment = make_environment({**settings, **_QUIET, "COORDINATOR_DATA_DIR": str(options.data)})
        self._tell = tell
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[int] = []
        self._started = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._due = 0.0
        self._deadline = 0.0

    @property
    def log(self) -> Path:
        return self._options.log

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def keep_running(self) -> None:
        """Start the worker if it is not running, unless it died a short time ago; call this regularly."""
        if self.is_running:
            return
        now = time.monotonic()
        if self._process is not None:
            self._note_death(self._process, now)
        if now >= self._due:
            self._start(now)

    def _note_death(self, process: "subprocess.Popen[bytes]", now: float) -> None:
        if now - self._started > STEADY_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        lines = "\n".join(["", *self._read_tail()])
        self._tell(f"The worker ended unexpectedly ({how}) and is restarted. Its log, {self.log}, ends with:{lines}")
        self._process = None
        self._due = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _read_tail(self) -> list[str]:
        with suppress(OSError):
            return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return []

    def _start(self, now: float) -> None:
        if not self._groups:  # The first worker begins a new log; those that replace it continue it, as do runs.
            self.log.write_bytes(b"")
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                python_command("-m", self._options.module, *self._options.arguments),
                cwd=own_directory(),
                env=self._environment,
                stdin=subprocess.PIPE,  # Its end tells the worker that this process was killed.
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # So that Ctrl-C does not reach the runs, which are stopped in order.
            )
        self._groups.append(self._process.pid)
        self._started = now

    def drain(self) -> None:
        """Take no new runs, stop those in progress with their work kept, and end the worker; a signal hurries it."""
        members = [one for group in self._groups for one in list_group(group)]
        runs = [one for one in members if one.pid not in self._groups]
        if runs:
            what = "run stops its" if len(runs) == 1 else "runs stop their"
            self._tell(f"{len(runs)} {what} sessions, whose work is kept. Press Ctrl-C again to exit at once.")
        self._deadline = time.monotonic() + DRAIN_SECONDS
        with on_signals(lambda _: self._hurry()):
            self._signal_worker()
            for orphan in runs:
                if is_orphan(orphan, self._groups):
                    send(orphan, signal.SIGTERM)  # It stops its sessions.
            self._wait(members)

    def _hurry(self) -> None:
        self._tell("Exiting at once; everything still running is ended. The next run continues from here.")
        self._deadline = time.monotonic() + LEAVE_SECONDS
        self._signal_worker()

    def _signal_worker(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def _wait(self, members: Sequence[psutil.Process]) -> None:
        """Wait until the worker and its runs have ended; what is left at the deadline is killed."""
        while alive := [one for one in members if is_alive(one)]:
            if self._process is not None:
                self._process.poll()
            if time.monotonic() > self._deadline:
                for member in alive:
                    kill_tree(member.pid)
            time.sleep(LOOK_SECONDS)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process is running; a zombie is not."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def is_orphan(process: psutil.Process, workers: Sequence[int]) -> bool:
    """Whether a run's worker is gone, so that nothing else tells it to stop."""
    with suppress(psutil.Error):
        return process.ppid() not in workers
    return False


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(psutil.Error):
        process.send_signal(number)


def kill_tree(pid: int) -> None:
    """Kill a process and all processes that it has started."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for member in [*process.children(recursive=True), process]:
            with suppress(psutil.Error):
                member.kill()


def list_group(group: int) -> list[psutil.Process]:
    """The processes in a process group, zombies left out."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
