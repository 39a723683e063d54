"""Runs git's long-lived helper processes: one request, one answer, and a restart if a process has died."""

import os
import subprocess
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeVar

from tasks_lib.errors import GitError
from tasks_lib.git.git_program import local_variables
from tasks_lib.git.runner import git_environment
from tasks_lib.process.program_lookup import require_program
from tasks_lib.process.program_starts import require_start

Answer = TypeVar("Answer")
_STOP_SECONDS = 5
_TRIES = 2
"""The first try may find a helper that died while idle; if a fresh one dies too, something is wrong."""


class Died(Exception):  # noqa: N818 - An event between a child and its reader, never raised to callers.
    """The helper closed its output in the middle of an answer."""


class Child:
    """A git process that reads requests from its standard input; thread-safe, one request at a time.

    It runs in a session of its own, so that a Ctrl-C does not reach it, and exits when its input is closed.
    `environment` overrides its variables.
    """

    def __init__(self, directory: Path, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._environment: Mapping[str, str] = environment or {}
        self._directory: Path = directory
        self._arguments: tuple[str, ...] = tuple(arguments)
        self._lock: threading.Lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[[subprocess.Popen[bytes]], Child] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the helper, or None if it is not running."""
        process = self._process
        return process.pid if process else None

    def ask(self, request: bytes, read_answer: Callable[[IO[bytes]], Answer]) -> Answer:
        """Send `request` and return what `read_answer` parses from the output.

        `read_answer` raises Died if the output ends early. Raises GitError if the helper dies twice in a row.
        """
        with self._lock:
            for _ in range(_TRIES):
                process = self._process or self._start()
                try:
                    return _exchange(process, request, read_answer)
                except (OSError, Died):
                    self._stop()
                except BaseException:
                    # The pipe may still contain half an answer, which the next request must not read.
                    self._stop()
                    raise
            raise GitError(self._arguments, -1, "the process ended in the middle of an answer, twice")

    def close(self) -> None:
        """End the helper; the next request starts a new one."""
        with self._lock:
            self._stop()

    def _start(self) -> "subprocess.Popen[bytes]":
        require_start()
        inherited = {name: os.environ[name] for name in os.environ.keys() - set(local_variables())}
        # The helper fetches objects missing from a partial clone, so it too could prompt for credentials.
        environment = {**inherited, **git_environment(), **self._environment}
        process = subprocess.Popen(
            [require_program("git"), "-c", "core.fsync=committed", *self._arguments],
            cwd=self._directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._process = process
        self._finalizer = weakref.finalize(self, _end, process)
        return process

    def _stop(self) -> None:
        self._process = None
        if self._finalizer:
            self._finalizer()


def _exchange(process: "subprocess.Popen[bytes]", request: bytes, read_answer: Callable[[IO[bytes]], Answer]) -> Answer:
    if process.stdin is None or process.stdout is None:
        raise Died
    process.stdin.write(request)
    process.stdin.flush()
    return read_answer(process.stdout)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Close the pipes of `process` and wait for it; kill it only if it does not exit: by then it writes nothing."""
    for pipe in (process.stdin, process.stdout):
        if pipe:
            try:
                pipe.close()
            except OSError:  # Data still buffered for a dead process has no reader.
                continue
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
