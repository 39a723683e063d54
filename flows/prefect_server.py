"""Runs Prefect's server as a child process on loopback, with a data directory that all coordinators share."""

import fcntl
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, cast

import psutil

from flows.data_directory import data_dir, own_directory
from flows.loopback import LOOPBACK
from flows.prefect_api import find_ui
from flows.prefect_isolation import external_server_settings, isolated
from flows.server_health import ServerError, require_login, wait_until_healthy
from flows.server_settings import DATABASE_URL, find_package, find_ui_settings, quiet_settings, server_settings
from flows.server_sharing import RECORD, USERS_LOCK, Child, is_last, mutex, read_running
from flows.termination_signals import on_signals, pass_over
from tasks_lib.errors import InputError
from tasks_lib.process.files import write_atomically
from tasks_lib.process.program_lookup import require_program
from tasks_lib.process.python_command import python_command, python_environment

SERVER = "flows.server_process"
"""The module that runs the server."""
STOP_SECONDS = 15
ONCE_RECORDED = ("-c", 'read -r go && exec "$@" < /dev/null', "sh")
"""Starts the server only after its record is written; an unrecorded one could not be stopped or shared later."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running Prefect server: `api` and `ui` are addresses, `is_ours` says whether it is coordinator's own.

    `was_running` says whether another coordinator had started it.
    """

    api: str
    ui: str
    is_ours: bool
    was_running: bool = False


def find_api() -> dict[str, str]:
    """The settings for `isolated` with which Prefect reaches a running server, own or external; {} if there is none."""
    if os.environ.get("PREFECT_API_URL"):
        return external_server_settings() | quiet_settings()
    home = data_dir() / "prefect"
    child = read_running(home)
    if child is None:
        return {}
    try:
        wait_until_healthy(f"http://{LOOPBACK}:{child.port}/api", None, None)
    except ServerError:
        return {}
    return server_settings(home, child.port) | quiet_settings()


def do_nothing() -> None:
    """There is nothing to do while the server starts."""


@contextmanager
def serve(
    port: int = 0, database: Mapping[str, str] | None = None, meanwhile: Callable[[], None] = do_nothing
) -> Generator[Server]:
    """Provide a server while the block runs: the one at PREFECT_API_URL, or else our own.

    Prefect is isolated in the block (`prefect_isolation.py`), so enter this before importing it. `port` 0 picks a free
    port. `database` are settings that only our own server gets; None starts one with its SQLite database, or shares any
    that runs. While one starts, `meanwhile` is called, with Prefect isolated as in the block. Raises ServerError if
    the server does not answer, InputError if it rejects the login or if one with another database runs.
    """
    theirs = os.environ.get("PREFECT_API_URL")
    if theirs:
        wait_until_healthy(theirs, None, None)
        require_login(theirs)
        with isolated(external_server_settings() | quiet_settings()):
            yield Server(theirs, find_ui(theirs), is_ours=False)
        return
    home = data_dir() / "prefect"
    home.mkdir(exist_ok=True)
    with (home / USERS_LOCK).open("w") as users:
        child: Child | None = None
        try:
            with mutex(home):
                fcntl.flock(users, fcntl.LOCK_SH)
                child = find_running(home, users)
                was_running = child is not None
                if child:
                    require_database(child, database or {})
                else:
                    child = start_child(home, port or find_free_port(), database or {}, meanwhile)
            with isolated(server_settings(home, child.port) | quiet_settings()):
                ui = f"http://{LOOPBACK}:{child.port}"
                yield Server(f"{ui}/api", ui, is_ours=True, was_running=was_running)
        finally:
            # A second Ctrl-C must not leave the server running; stopping it has a time limit.
            with on_signals(pass_over):
                if child:
                    with mutex(home):
                        end_if_last(users, child, home)


def describe_start() -> str:
    """What `serve` does first if it has to start a server, for people who wait for it; "" if one runs."""
    home = data_dir() / "prefect"
    if os.environ.get("PREFECT_API_URL") or read_running(home):
        return ""
    from flows.database_template import must_create  # Only a start needs what it imports.

    what = "Starting the Prefect server"
    return f"{what}, which sets up its database, once on this machine" if must_create(home) else what


def find_running(home: Path, users: IO[str]) -> Child | None:
    """Find the server of another coordinator, or of one that was killed, if it answers.

    Every coordinator that uses the server holds the lock `users`. A server that does not answer is stopped if nobody
    else uses it; raises ServerError if somebody does.
    """
    child = read_running(home)
    if child is None:
        return None
    try:
        wait_until_healthy(f"http://{LOOPBACK}:{child.port}/api", None, home / "server.log")
    except ServerError:
        if not is_last(users):
            raise
        end_child(child)
        return None
    return child


def require_database(child: Child, database: Mapping[str, str]) -> None:
    """Raise InputError if the running server was started without the settings `database`."""
    process = child.process()
    found = process.environ() if process else {}
    if any(found.get(name) != value for name, value in database.items()):
        ui = f"http://{LOOPBACK}:{child.port}"
        raise InputError(
            [f"a Prefect server with another database is running at {ui}; stop what uses it, then start it again"]
        )


def start_child(
    home: Path,
    port: int,
    database: Mapping[str, str] = MappingProxyType({}),
    meanwhile: Callable[[], None] = do_nothing,
) -> Child:
    """Start a server, call `meanwhile` with Prefect isolated, and wait until the server answers.

    Raises ServerError, with nothing left running, if it does not.
    """
    from flows.database_template import prepared_database  # Only a start needs what it imports.

    log = home / "server.log"
    settings = server_settings(home, port) | find_ui_settings(home, find_package()) | dict(database)
    with nullcontext(settings) if DATABASE_URL in database else prepared_database(home) as prepared:
        process = launch({**settings, **prepared}, port, log)
        child = Child(process.pid, psutil.Process(process.pid).create_time(), port)
        try:
            for left in home.glob(f"{RECORD}.*"):
                left.unlink(missing_ok=True)  # Left by a coordinator that was killed here.
            write_atomically(home / RECORD, json.dumps(asdict(child)).encode())
            with suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as go:
                go.write(b"go\n")
            with isolated(server_settings(home, port) | quiet_settings()):
                meanwhile()
            wait_until_healthy(settings["PREFECT_API_URL"], process, log)
        except BaseException:
            with on_signals(pass_over):
                end_child(child)
                process.wait()
            raise
        return child


def launch(settings: Mapping[str, str], port: int, log: Path) -> "subprocess.Popen[bytes]":
    """Start a process that becomes the server once it has read a line."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [require_program("sh"), *ONCE_RECORDED,
             *python_command("-m", SERVER, "--host", LOOPBACK, "--port", str(port))],
            cwd=own_directory(),
            env=python_environment(os.environ, settings),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # So that Ctrl-C does not reach the server, which has to record the last states.
        )  # fmt: skip


def end_if_last(users: IO[str], child: Child, home: Path) -> None:
    """Stop the server unless another coordinator uses it."""
    if is_last(users):
        end_child(child)
        (home / RECORD).unlink(missing_ok=True)


def end_idle_server() -> bool:
    """Stop the server in our data directory if no coordinator uses it, e.g. after a kill; returns whether it did."""
    home = data_dir() / "prefect"
    if not (home / RECORD).exists():
        return False
    with (home / USERS_LOCK).open("w") as users, mutex(home):
        try:
            # Check the lock first: a server in use may be too busy to answer, and would be taken for dead.
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        child = read_running(home)
        if child:
            end_if_last(users, child, home)
        return child is not None and child.process() is None


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def end_child(child: Child) -> None:
    """Stop the server and everything in its process group."""
    process = child.process()
    if process is None:
        return
    members = [process, *process.children(recursive=True)]
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(members, STOP_SECONDS)
    for member in alive:
        with suppress(psutil.Error):
            member.kill()
    psutil.wait_procs(alive, STOP_SECONDS)
