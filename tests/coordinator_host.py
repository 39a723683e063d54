"""A process that has imported Prefect and the command line, and forks for each command that the end-to-end tests run.

A fork saves the seconds of CPU time that a command spends on imports. It is the real command line in a process of its own,
with its own environment, directory, output and exit code. Its modules were imported with the settings of the same Prefect
server, and Prefect reads its settings again in each fork. Only how Python starts is left out: tests of a start, of standard
streams and of isolation start Python as a user does.
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
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO, NoReturn, Protocol

BACKLOG = 16
CLOSED = b""
OUTPUT = b"output"
"""Comes with the file descriptor that a command prints to."""
ENCODING = "utf-8"
PROGRAM = Path(__file__).resolve().parent.parent / "flows" / "cli" / "__main__.py"


class Started(Protocol):
    """A program in progress: what the tests use of `subprocess.Popen`, which is one."""

    @property
    def pid(self) -> int: ...
    @property
    def stdout(self) -> IO[str] | None: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def communicate(self, input: None = None, timeout: float | None = None) -> tuple[str, str]: ...  # noqa: A002
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class ForkedCoordinator:
    """A command in a fork of the host, which reaps it and sends its exit code over `connection`."""

    def __init__(self, connection: socket.socket, output: int) -> None:
        self._connection: socket.socket = connection
        self._answers: IO[bytes] = connection.makefile("rb")
        self.stdout: IO[str] = os.fdopen(output, encoding=ENCODING)
        self.returncode: int | None = None
        self.pid: int = int(self._answers.readline())

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self._finish()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("coordinator", timeout or 0)
        return self._finish()

    def _finish(self) -> int:
        if self.returncode is None:
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._connection.close()
        return self.returncode

    def communicate(self, input: None = None, timeout: float | None = None) -> tuple[str, str]:  # noqa: A002
        parts: list[str] = []
        reader = Thread(target=lambda: parts.append(self.stdout.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        if reader.is_alive():
            raise subprocess.TimeoutExpired("coordinator", timeout or 0)
        self.wait(timeout)
        self.stdout.close()
        return "".join(parts), ""

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class CoordinatorHost:
    """Runs the command line in forks of one process; `address` is the path of its socket."""

    def __init__(self, address: Path) -> None:
        self._address: Path = address

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> ForkedCoordinator:
        """Start `coordinator` with `arguments`; its output goes to a pipe."""
        request = json.dumps({"arguments": arguments, "environment": dict(environment), "cwd": str(Path.cwd())})
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._address))
        reader, writer = os.pipe()
        socket.send_fds(connection, [OUTPUT], [writer])
        os.close(writer)
        connection.sendall(request.encode(ENCODING, "surrogateescape"))
        connection.shutdown(socket.SHUT_WR)
        return ForkedCoordinator(connection, reader)


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
    from flows.server_settings import quiet_settings

    with importing(), isolated(external_server_settings() | quiet_settings()):
        for name in ("flows.cli.app", "flows.cli.commands.run", "flows.run_graph"):
            importlib.import_module(name)


def answer(connection: socket.socket) -> NoReturn:
    """Run one command in a child, and send its process id and, when it has ended, its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, (output, *_), _, _ = socket.recv_fds(connection, len(OUTPUT), 1)
    request = json.loads(read_all(connection).decode(ENCODING, "surrogateescape"))
    child = os.fork()
    if child == 0:
        connection.close()
        become_coordinator(output, request["arguments"], request["environment"], request["cwd"])
    os.close(output)
    with suppress(OSError):  # The test may have ended.
        connection.sendall(f"{child}\n".encode())
        connection.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())
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
    from flows.server_settings import quiet_settings

    with isolated(external_server_settings() | quiet_settings()):
        refresh_global_settings_context()


if __name__ == "__main__":
    serve(sys.argv[1])
