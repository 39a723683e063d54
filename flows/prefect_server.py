"""Runs Prefect's server as a child process on loopback, with a data directory that all coordinators share."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
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
from flows.server_sharing import KEPT, RECORD, USERS_LOCK, Child, is_last, keep, mutex, read_kept, read_running
from flows.termination_signals import on_signals, pass_over
from tasks_lib.errors import InputError
from tasks_lib.process.files import find_unfinished, write_atomically
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
def use_theirs(api: str) -> Generator[Server]:
    """Provide the user's own server, as `serve` does."""
    wait_until_healthy(api, None, None)
    require_login(api)
    with isolated(external_server_settings() | quiet_settings()):
        yield Server(api, find_ui(api), is_ours=False)


@contextmanager
def serve(
    port: int = 0,
    database: Mapping[str, str] | None = None,
    meanwhile: Callable[[], None] = do_nothing,
    linger_seconds: float | None = None,
) -> Generator[Server]:
    """Provide a server while the block runs: the one at PREFECT_API_URL, or else our own.

    Prefect is isolated in the block (`prefect_isolation.py`), so enter this before importing it. `port` 0 picks a free
    port. `database` are settings that only our own server gets; None starts one with its SQLite database, or shares any
    that runs. While one starts, `meanwhile` is called, with Prefect isolated as in the block. A server that nobody uses
    after the block ends, or stays for `linger_seconds`, or for as long as an earlier run has asked for; with None it
    ends in any case. Raises ServerError if the server does not answer, InputError if it rejects the login or if one
    with another database is in use.
    """
    theirs = os.environ.get("PREFECT_API_URL")
    if theirs:
        with use_theirs(theirs) as server:
            yield server
        return
    home = data_dir() / "prefect"
    home.mkdir(exist_ok=True)
    with (home / USERS_LOCK).open("w") as users:
        child: Child | None = None
        try:
            with mutex(home):
                fcntl.flock(users, fcntl.LOCK_SH)
                child = find_suitable(home, users, port, database or {})
                was_running = child is not None
                if child is None:
                    child = start_child(home, port or find_free_port(), database or {}, meanwhile, is_watched=True)
            with isolated(server_settings(home, child.port) | quiet_settings()):
                ui = f"http://{LOOPBACK}:{child.port}"
                yield Server(f"{ui}/api", ui, is_ours=True, was_running=was_running)
        finally:
            # A second Ctrl-C must not leave the server running; stopping it has a time limit.
            with on_signals(pass_over):
                if child:
                    with mutex(home):
                        end_if_last(users, child, home, linger_seconds)


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


def find_suitable(home: Path, users: IO[str], port: int, database: Mapping[str, str]) -> Child | None:
    """Find a running server as `find_running` does, but end one that nobody uses if it has another port or database.

    Raises InputError if one with another database is in use.
    """
    child = find_running(home, users)
    if child is None:
        return None
    is_suitable = child.port == (port or child.port) and has_database(child, database)
    if not is_suitable and is_last(users):
        end_child(child)
        return None
    require_database(child, database)
    return child


def has_database(child: Child, database: Mapping[str, str]) -> bool:
    """Whether the running server was started with the settings `database`."""
    process = child.process()
    found = process.environ() if process else {}
    return all(found.get(name) == value for name, value in database.items())


def require_database(child: Child, database: Mapping[str, str]) -> None:
    """Raise InputError if the running server was started without the settings `database`."""
    if not has_database(child, database):
        ui = f"http://{LOOPBACK}:{child.port}"
        raise InputError(
            [f"a Prefect server with another database is running at {ui}; stop what uses it, then start it again"]
        )


def start_child(
    home: Path,
    port: int,
    database: Mapping[str, str] = MappingProxyType({}),
    meanwhile: Callable[[], None] = do_nothing,
    *,
    is_watched: bool = False,
) -> Child:
    """Start a server, call `meanwhile` with Prefect isolated, and wait until the server answers.

    With `is_watched`, it ends by itself when nobody has used it for long enough (`unused_server.py`). Raises
    ServerError, with nothing left running, if it does not.
    """
    from flows.database_template import prepared_database  # Only a start needs what it imports.

    log = home / "server.log"
    settings = server_settings(home, port) | find_ui_settings(home, find_package()) | dict(database)
    with nullcontext(settings) if DATABASE_URL in database else prepared_database(home) as prepared:
        process = launch({**settings, **prepared}, port, log, ("--home", str(home)) if is_watched else ())
        child = Child(process.pid, psutil.Process(process.pid).create_time(), port)
        try:
            (home / KEPT).unlink(missing_ok=True)  # Of an earlier server.
            remove_unfinished(home)
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
                forget_server(home)
            raise
        return child


def launch(settings: Mapping[str, str], port: int, log: Path, more: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start a process that becomes the server once it has read a line."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [require_program("sh"), *ONCE_RECORDED,
             *python_command("-m", SERVER, "--host", LOOPBACK, "--port", str(port), *more)],
            cwd=own_directory(),
            env=python_environment(os.environ, settings),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # So that Ctrl-C does not reach the server, which has to record the last states.
        )  # fmt: skip


def end_if_last(users: IO[str], child: Child, home: Path, linger_seconds: float | None = None) -> None:
    """Stop the server unless another coordinator uses it, or it is to stay: see `serve`."""
    if linger_seconds and child.process():
        keep(home, child, linger_seconds)
    if is_last(users) and (linger_seconds is None or not is_kept(home, child)):
        end_child(child)
        forget_server(home)


def forget_server(home: Path) -> None:
    """Remove the records of a server that has ended; only with the mutex held."""
    for name in (RECORD, KEPT):
        (home / name).unlink(missing_ok=True)
    remove_unfinished(home)


def remove_unfinished(home: Path) -> None:
    """Remove what coordinators that were killed while they wrote in `home` have left; only with the mutex held."""
    for left in find_unfinished(home):
        left.unlink(missing_ok=True)


def is_kept(home: Path, child: Child) -> bool:
    """Whether the server is to stay for a while although nobody uses it; it then ends by itself."""
    return child.process() is not None and read_kept(home, child) > time.time()


def end_idle_server(*, is_kept_too: bool = False) -> bool:
    """Stop the server in our data directory if no coordinator uses it, e.g. after a kill; returns whether it did.

    One that is to stay for a while is left alone, unless `is_kept_too`.
    """
    home = data_dir() / "prefect"
    if not any((home / name).exists() for name in (RECORD, KEPT)):
        return False
    with (home / USERS_LOCK).open("w") as users, mutex(home):
        try:
            # Check the lock first: a server in use may be too busy to answer, and would be taken for dead.
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        child = read_running(home)
        if child:
            end_if_last(users, child, home, None if is_kept_too else 0.0)
        else:  # A coordinator was killed once it had ended the server.
            forget_server(home)
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
