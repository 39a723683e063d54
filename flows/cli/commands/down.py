"""`coordinator down`: ends what `coordinator up --detach` started, and a server that nothing uses."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from rich.console import Console

from flows.cli.display.output import say
from flows.cli.display.server_start import show_seconds
from flows.data_directory import data_dir, list_repositories, name_program
from flows.loopback import LOOPBACK
from flows.prefect_server import end_idle_server
from flows.server_sharing import read_running
from flows.server_users import Stage, User, list_users
from tasks_lib.errors import BusyError, GitError, InputError, SystemFailure
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import read_holder
from tasks_lib.reporting.run_report import ExitCode

END_SECONDS = 420.0
"""A run may take three minutes to stop its sessions, and worker and server end after it; each has its own limits."""
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class WorkerRun:
    """A run that a worker executes, in the repository with the path `repository`."""

    repository: str
    pid: int

    def __str__(self) -> str:
        return f"a run in {self.repository} (process {self.pid})"


def end_stack(*, is_forced: bool, console: Console) -> ExitCode:
    """End the local stack in the background, wait until it is gone, and say what still runs.

    With `is_forced`, also stop runs in progress, as a signal does. Raises BusyError if runs are in progress, or if what
    runs is not in the background; SystemFailure if something does not end.
    """
    tell = partial(say, console)
    home = data_dir() / "prefect"
    users = list_users(home)
    runs = [user for user in users if user.repository]
    detached = next((user for user in users if user.is_detached), None)
    if detached is None and (kept := [user for user in users if not user.repository]):
        raise BusyError("\n".join(f"{user} is not in the background; end it there, with Ctrl-C" for user in kept))
    if (found := [*runs, *list_worker_runs(detached)]) and not is_forced:
        raise BusyError(refuse(found))
    for user in (*runs, *([detached] if detached else [])):
        tell(end_user(user, console))
    ended = end_server(home)
    for line in ended:
        tell(line)
    tell_what_is_left(home, tell, is_nothing_ended=not (runs or detached or ended))
    return ExitCode.COMPLETED


def refuse(runs: Sequence[User | WorkerRun]) -> str:
    """Say which runs are in progress, and what to do."""
    how = f"Wait, or stop them with their work kept: {name_program()} down --force"
    return "\n".join(["Nothing was ended, because runs are in progress:", *(f"  {run}" for run in runs), how])


def list_worker_runs(detached: User | None) -> list[WorkerRun]:
    """The runs that the worker of the one in the background executes: those that hold the lock of a repository."""
    if detached is None:
        return []
    found: list[WorkerRun] = []
    for place in list_repositories().values():
        with suppress(InputError, GitError, OSError):
            holder = read_holder(Repository.open(place).state_dir)
            if holder and _reaches(holder.pid, f"{detached.ui}/api"):
                found.append(WorkerRun(str(place), holder.pid))
    return found


def _reaches(pid: int, api: str) -> bool:
    """Whether a process was started for the server at `api`, as a worker starts its runs."""
    with suppress(psutil.Error):
        return psutil.Process(pid).environ().get("PREFECT_API_URL") == api
    return False


def end_user(user: User, console: Console) -> str:
    """End a process as Ctrl-C does, unless it is ending already; returns a line about it."""
    if user.stage != Stage.ENDING:
        with suppress(ProcessLookupError):
            os.kill(user.pid, signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    with show_seconds(console, f"Waiting for {user} to end"):
        while user.process():
            if time.monotonic() > deadline:
                how = f"to kill it: kill -9 {user.pid}"
                raise SystemFailure(f"{user} did not end within {END_SECONDS:.0f} seconds; {how}")
            time.sleep(LOOK_SECONDS)
    return f"Ended {user}{f', at {user.ui}' if user.ui else ''}."


def end_server(home: Path) -> list[str]:
    """End a server that nothing uses: one that stays for a while, or that a killed run has left; returns lines."""
    server = read_running(home)
    if end_idle_server(is_kept_too=True) and server:
        return [f"Ended the Prefect server at http://{LOOPBACK}:{server.port}, which nothing used."]
    return []


def tell_what_is_left(home: Path, tell: Callable[[str], None], *, is_nothing_ended: bool) -> None:
    """Say what still uses the server; if nothing was ended, say too if there is nothing."""
    server = read_running(home)
    if server is None:
        if is_nothing_ended:
            tell("Nothing runs in the background.")
        return
    users = ", ".join(str(user) for user in list_users(home)) or "a worker, after the runs that it has started"
    tell(f"The server at http://{LOOPBACK}:{server.port} continues until what uses it ends: {users}.")
