"""`coordinator up`: runs the coordinator's own Prefect server, for its UI and history, until Ctrl-C."""

import os
import socket
import time
from contextlib import suppress

import httpx
from rich.console import Console

from flows.cli.display.output import say
from flows.data_directory import data_dir
from flows.prefect_api import ask, find_ui
from flows.prefect_server import LOOPBACK, Server, ServerError, mutex, read_running, serve
from flows.termination_signals import on_signals, raise_ended
from tasks_lib.errors import InputError
from tasks_lib.reporting.run_report import ExitCode

LOOK_SECONDS = 5.0
MISSES = 6
"""How many health checks in a row a busy server may miss."""


def keep_up(port: int, console: Console) -> ExitCode:
    """Start the server, or share the running one; on Ctrl-C, TERM or HUP, stop it and return.

    If a run still uses the server, it stays until that run ends. Raises InputError if `port` is taken, ServerError if
    the server does not start or stops answering.
    """
    if theirs := os.environ.get("PREFECT_API_URL"):
        say(console, f"PREFECT_API_URL is set, so runs are shown on that server: {find_ui(theirs)}")
        return ExitCode.COMPLETED
    # The server runs even if the output is closed (`>&-`); a closed terminal ends it, as Ctrl-C does.
    with on_signals(raise_ended), suppress(KeyboardInterrupt):
        require_free(port)
        say(console, "Starting the Prefect server (10 to 20 seconds) …", "dim")
        with serve(port) as server:
            say(console, f"Prefect's UI, with the history of all runs: {server.ui}")
            say(console, "Press Ctrl-C to stop.")
            wait(server)
    return ExitCode.COMPLETED


def require_free(port: int) -> None:
    """Raise InputError if another program listens on `port`; our own server is shared, and 0 picks a free port."""
    home = data_dir() / "prefect"
    home.mkdir(exist_ok=True)
    with mutex(home):
        if not port or read_running(home):
            return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise InputError([f"port {port} cannot be used ({error.strerror}); choose another with --port"]) from error


def wait(server: Server) -> None:
    """Check the server regularly until a signal; raises ServerError when it is gone."""
    missed = 0
    with ask(server.api, LOOK_SECONDS) as client:
        while missed < MISSES:
            time.sleep(LOOK_SECONDS)
            missed += 1
            with suppress(httpx.HTTPError):
                if client.get("/health").is_success:
                    missed = 0
    raise ServerError(f"the Prefect server at {server.ui} stopped answering; run `coordinator up` to restart it")
