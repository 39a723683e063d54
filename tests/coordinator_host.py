"""A process that has imported Prefect and the command line, and forks for each command that the end-to-end tests run.

A fork saves the seconds of CPU time that a command spends on imports. It is the real command line in a process of its own,
with its own environment, directory, output and exit code. Its modules were imported with the settings of the same Prefect
server, and Prefect reads its settings again in each fork. Only how Python starts is left out: tests that signal or isolate
a coordinator start Python as a user does.
"""

import importlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

BACKLOG = 16
CLOSED = b""
ENCODING = "utf-8"
PROGRAM = Path(__file__).resolve().parent.parent / "flows" / "cli" / "__main__.py"


class CoordinatorHost:
    """Runs the command line in forks of one process; `address` is the path of its socket."""

    def __init__(self, address: Path) -> None:
        self._address: Path = address

    def run(self, arguments: Sequence[str], environment: Mapping[str, str], seconds: float) -> tuple[int, str]:
        """Run `coordinator` with `arguments`; return its exit code, and what it printed. Raises TimeoutError."""
        request = json.dumps({"arguments": arguments, "environment": dict(environment), "cwd": str(Path.cwd())})
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(str(self._address))
            connection.sendall(request.encode(ENCODING, "surrogateescape"))
            connection.shutdown(socket.SHUT_WR)
            status, _, output = read_all(connection).partition(b"\n")
        return int(status), output.decode(ENCODING).replace("\r\n", "\n")


@contextmanager
def open_host(directory: Path, environment: Mapping[str, str]) -> Generator[CoordinatorHost]:
    """Start a host in `directory`, whose modules are imported with `environment`; it ends with the block."""
    address = directory / "socket"
    command = [sys.executable, "-P", __file__, str(address)]
    with subprocess.Popen(command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == b"ready\n"
            yield CoordinatorHost(address)
        finally:
            process.stdin.close()


def read_all(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    while (part := connection.recv(1 << 16)) != CLOSED:
        parts.append(part)
    return b"".join(parts)


# What follows runs in the host.


def serve(address: str) -> None:
    """Fork for each connection until standard input is closed."""
    import_all()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # So that the system reaps those who answered.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(BACKLOG)
        print("ready", flush=True)
        while sys.stdin not in (readable := select.select([sys.stdin, listener], [], [])[0]):
            assert readable
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                answer(connection)
            connection.close()


def import_all() -> None:
    """Import what `coordinator run` does, with Prefect's settings as it would set them."""
    from flows.importing import importing
    from flows.prefect_isolation import external_server_settings, isolated
    from flows.prefect_server import quiet_settings

    with importing(), isolated(external_server_settings() | quiet_settings()):
        for name in ("flows.cli.app", "flows.cli.commands.run", "flows.run_graph"):
            importlib.import_module(name)


def answer(connection: socket.socket) -> NoReturn:
    """Run one command in a child, and send its exit code and its output."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(read_all(connection).decode(ENCODING, "surrogateescape"))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        connection.close()
        os.close(reader)
        become_coordinator(writer, request["arguments"], request["environment"], request["cwd"])
    os.close(writer)
    with os.fdopen(reader, "rb") as source:
        output = source.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(f"{code}\n".encode() + output)
    connection.close()
    os._exit(0)


def become_coordinator(output: int, arguments: Sequence[str], environment: Mapping[str, str], cwd: str) -> NoReturn:
    """Do what `python -m flows.cli` does once it has started, and end with its exit code."""
    code = 1
    try:
        set_streams(output)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [str(PROGRAM), *arguments]
        read_settings_again()
        from flows.cli.main import main

        main()  # It exits by itself; what is printed is flushed.
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)


def set_streams(output: int) -> None:
    """Give this process no input, and `output` for both of its outputs, as Python opens them for a pipe."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for theirs, own in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(theirs, own)
    os.close(nothing)
    os.close(output)
    sys.stdin = os.fdopen(0, encoding=ENCODING, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=ENCODING, closefd=False)
    errors = os.fdopen(2, "wb", closefd=False)
    sys.stderr = io.TextIOWrapper(errors, encoding=ENCODING, errors="backslashreplace", line_buffering=True)


def read_settings_again() -> None:
    """Let Prefect read what it read at import, now that the environment is that of the run."""
    from prefect.context import refresh_global_settings_context

    from flows.prefect_isolation import external_server_settings, isolated
    from flows.prefect_server import quiet_settings

    with isolated(external_server_settings() | quiet_settings()):
        refresh_global_settings_context()


if __name__ == "__main__":
    serve(sys.argv[1])
