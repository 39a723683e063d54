"""Reads what a program prints until it exits, even if another process keeps its output open.

The rule: wait for the process that was started, never for the end of its pipes. A program can leave another process
behind that inherited them: ssh its master connection, a hook a server, a shell line anything that it starts with `&`.
So no module calls `communicate`, or `run` with `capture_output`; `tests/test_no_blocking_reads.py` checks this.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks_lib.process.program_starts import require_start

_LOOK_SECONDS = 0.05
"""How often to check whether the process has exited while its pipes are open and silent."""
_CHUNK_BYTES = 1 << 16
_LAST_READS = 64
"""Enough for a full pipe, at most 1 MiB: all that the process wrote is read, but an endless writer is not followed."""
_GRACE_SECONDS = 5.0
_running: set[int] = set()


def list_running() -> frozenset[int]:
    """Return the ids of the programs that this process is running here, so that none is mistaken for another's."""
    return frozenset(_running)


@dataclass(frozen=True, slots=True)
class Captured:
    """How a program ended: its exit `status`, negative for a signal, and what it printed."""

    status: int
    stdout: bytes
    stderr: bytes


def run_captured(
    argv: Sequence[str], *, cwd: Path | None = None, environment: Mapping[str, str], seconds: float | None = None
) -> Captured:
    """Run `argv` in its own session, with nothing on its standard input, and return what it printed.

    Raises OSError if it cannot or may not be started, and TimeoutExpired after `seconds`, once its process group has
    been ended.
    """
    require_start()
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = collect(process, seconds=seconds)
    except BaseException:
        end_captured(process)
        raise
    return Captured(process.returncode, out, err)


def collect(
    process: "subprocess.Popen[bytes]", stdin: bytes = b"", seconds: float | None = None
) -> tuple[bytes, bytes]:
    """Write `stdin` to `process`, wait for it to exit, and return what its standard output and error contained by then.

    Then the pipes are closed, so what another process still writes into them is lost. Raises TimeoutExpired after
    `seconds`; in that case the process keeps running and its pipes stay open.
    """
    _running.add(process.pid)
    deadline = time.monotonic() + seconds if seconds is not None else None
    with _Pipes(process, stdin) as pipes:
        while pipes.are_open and process.poll() is None:
            pipes.move(_LOOK_SECONDS)
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, seconds or 0.0)
        process.wait(None if deadline is None else max(deadline - time.monotonic(), _LOOK_SECONDS))
        pipes.read_last()
    _close(process)
    return pipes.read[process.stdout], pipes.read[process.stderr]


def end_captured(process: "subprocess.Popen[bytes]") -> None:
    """End the group that `process` leads: TERM first, because git removes its lock files on TERM."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
            break
    _close(process)


def _close(process: "subprocess.Popen[bytes]") -> None:
    _running.discard(process.pid)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with suppress(OSError):  # Flushing buffered input fails once the process is dead.
                pipe.close()


class _Pipes:
    """The pipes of one process, read and written without ever blocking on one of them."""

    def __init__(self, process: "subprocess.Popen[bytes]", stdin: bytes) -> None:
        self.read: dict[IO[bytes] | None, bytes] = {None: b"", process.stdout: b"", process.stderr: b""}
        self._parts: dict[int, list[bytes]] = {}
        self._stdin: IO[bytes] | None = process.stdin
        self._left: memoryview = memoryview(stdin)
        self._outputs: list[IO[bytes]] = [pipe for pipe in (process.stdout, process.stderr) if pipe]
        self._selector: selectors.BaseSelector = selectors.DefaultSelector()

    def __enter__(self) -> "_Pipes":
        for pipe in self._outputs:
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe.fileno(), selectors.EVENT_READ)
            self._parts[pipe.fileno()] = []
        if self._stdin and self._left:
            os.set_blocking(self._stdin.fileno(), False)
            self._selector.register(self._stdin.fileno(), selectors.EVENT_WRITE)
        elif self._stdin:
            self._stdin.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    @property
    def are_open(self) -> bool:
        return bool(self._selector.get_map())

    def move(self, seconds: float) -> None:
        """Read and write what is possible now; wait at most `seconds` for that."""
        for key, event in self._selector.select(seconds):
            if event & selectors.EVENT_WRITE:
                self._write_some(key.fd)
            else:
                self._read_some(key.fd)

    def read_last(self) -> None:
        """Read what is in the pipes now, and join everything that was read."""
        for pipe in self._outputs:
            number = pipe.fileno()
            for _ in range(_LAST_READS):
                if number not in self._selector.get_map() or not self._read_some(number):
                    break
            self.read[pipe] = b"".join(self._parts[number])

    def _read_some(self, number: int) -> bool:
        """Return whether something was read; a pipe at its end is no longer polled."""
        try:
            found = os.read(number, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if found:
            self._parts[number].append(found)
        else:
            self._selector.unregister(number)
        return bool(found)

    def _write_some(self, number: int) -> None:
        try:
            self._left = self._left[os.write(number, self._left[:_CHUNK_BYTES]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # It has stopped reading; its exit status says what that means.
            self._left = self._left[:0]
        if not self._left and self._stdin:
            self._selector.unregister(number)
            self._stdin.close()
