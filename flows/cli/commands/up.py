"""`coordinator up`: keeps the coordinator's own Prefect server running, for its UI and history, until Ctrl-C."""

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
"""A busy server may miss a few looks."""


def keep_up(port: int, console: Console) -> ExitCode:
    """Start the server, or join the one that runs, and return on Ctrl-C, TERM or HUP, when nothing of it is left.

    One that a run uses meanwhile stays until that ends. Raises InputError if `port` is taken, ServerError if the
    server does not start or does not answer any more.
    """
    if theirs := os.environ.get("PREFECT_API_URL"):
        say(console, f"PREFECT_API_URL names a server of yours, and runs are shown there: {find_ui(theirs)}")
        return ExitCode.COMPLETED
    # Whatever was said to nobody, as after `>&-`, the server is there; a closed terminal ends it, as Ctrl-C does.
    with on_signals(raise_ended), suppress(KeyboardInterrupt):
        require_free(port)
        say(console, "Starting Prefect's server (10 to 20 seconds) …", "dim")
        with serve(port) as server:
            say(console, f"Prefect's UI with every run so far: {server.ui}")
            say(console, "Ctrl-C ends it.")
            wait(server)
    return ExitCode.COMPLETED


def require_free(port: int) -> None:
    """Raise InputError if another program listens on `port`; 0 is any free one, and our own server is joined."""
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
    """Look at the server from time to time; only a signal ends this, or ServerError when it is gone."""
    missed = 0
    with ask(server.api, LOOK_SECONDS) as client:
        while missed < MISSES:
            time.sleep(LOOK_SECONDS)
            missed += 1
            with suppress(httpx.HTTPError):
                if client.get("/health").is_success:
                    missed = 0
    raise ServerError(f"the server at {server.ui} does not answer any more; `coordinator up` starts it again")
