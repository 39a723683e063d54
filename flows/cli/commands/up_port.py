"""Chooses the port of `coordinator up`, and says what has it already."""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from flows.cli.commands.option_values import UP_PORT
from flows.data_directory import data_dir
from flows.loopback import LOOPBACK
from flows.prefect_server import SERVER, Server
from flows.server_sharing import is_unused, mutex, read_running
from tasks_lib.errors import InputError
from tasks_lib.process.http_clients import make_client

PORTS = 20
"""How many ports are tried if none was asked for."""
ANSWER_SECONDS = 2.0


def choose_port(port: int | None, tell: Callable[[str], None], usual: int = UP_PORT) -> int:
    """Return the port for the server: `port`, or for None the `usual` one or the next that is free, which is told.

    0 picks a free port. Our own server is shared if it is in use, whatever its port. Raises InputError if none can be
    used.
    """
    home = data_dir() / "prefect"
    home.mkdir(exist_ok=True)
    with mutex(home):
        own = read_running(home)
        if port == 0 or (own and not is_unused(home)):
            return 0
    asked = [port] if port is not None else list(range(usual, min(usual + PORTS, 65536)))
    faults: list[str] = []
    for one in asked:
        fault = "" if own and own.port == one else find_fault(one)
        if not fault:
            if faults:
                tell(f"Port {asked[0]} cannot be used ({faults[0]}), so the server uses port {one}.")
            return one
        faults.append(fault)
    raise InputError([f"port {asked[0]} cannot be used ({faults[0]}); choose another with --port"])


def tell_of_port(port: int | None, server: Server, tell: Callable[[str], None]) -> None:
    """Say so if the server is not at the `port` that was asked for; 0 and None ask for none."""
    if port and not server.is_ours:
        tell(f"--port {port} has no effect, because PREFECT_API_URL is set.")
    elif port and not server.ui.endswith(f":{port}"):
        tell(f"--port {port} has no effect, because coordinator's server is in use already: {server.ui}")


def find_fault(port: int) -> str:
    """Why the server cannot listen on `port`, with what does; "" if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            is_taken = error.errno == errno.EADDRINUSE
            return f"{describe_listener(port)} has it" if is_taken else error.strerror or str(error)
    return ""


def describe_listener(port: int) -> str:
    """What listens on `port`, as far as this user may know: coordinator's server, another of Prefect, or a program."""
    process = find_listener(port)
    with suppress(psutil.Error):
        if process and SERVER in process.cmdline():
            home = process.environ().get("PREFECT_HOME", "")
            return f"coordinator's server for the data directory {Path(home).parent} (process {process.pid})"
    who = f"process {process.pid}" if process else ""
    if is_prefect(port):
        return f"another Prefect server{f' ({who})' if who else ''}"
    with suppress(psutil.Error):
        return f"{process.name()}, {who}," if process else "another program"
    return "another program"


def find_listener(port: int) -> psutil.Process | None:
    """The process that listens on `port`, if the system tells this user."""
    with suppress(psutil.Error):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                return psutil.Process(one.pid)
    return None


def is_prefect(port: int) -> bool:
    """Whether what listens on `port` answers like Prefect's API."""
    with suppress(httpx.HTTPError), make_client(f"http://{LOOPBACK}:{port}/api", ANSWER_SECONDS) as client:
        return client.get("/health").is_success and client.get("/admin/version").is_success
    return False
