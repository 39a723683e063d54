"""`coordinator up --detach`: starts the local stack as a process of its own, and returns when it is ready."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from rich.console import Console

from flows.cli.display.output import say
from flows.cli.display.server_start import show_start
from flows.data_directory import data_dir, name_program, own_directory
from flows.prefect_isolation import absolute_places
from flows.server_users import Stage, User, find_detached
from flows.termination_signals import on_signals, pass_over
from tasks_lib.errors import SystemFailure
from tasks_lib.process.python_command import python_command
from tasks_lib.process.user_environment import user_environment
from tasks_lib.reporting.run_report import ExitCode

LOG = "up.log"
DETACHED_VARIABLE = "COORDINATOR_UP_DETACHED"
"""Tells a `coordinator up` that it is the one in the background. Workers do not get it."""
READY_SECONDS = 600.0
"""Limits the wait for the stack; its server alone may take three minutes."""
LOOK_SECONDS = 0.1
STOP_SECONDS = 60.0
WAITS = "…"
"""The end of lines of the log that only say what `up` is waiting for."""


def detach(arguments: Sequence[str], secrets: Mapping[str, str], console: Console) -> ExitCode:
    """Run `coordinator up` with `arguments` in the background, unless one runs there; returns when it is ready.

    `secrets` are variables for it. On a signal, ends what it has started. Raises SystemFailure if it is not ready in
    time.
    """
    home = data_dir() / "prefect"
    home.mkdir(exist_ok=True)
    start = Start(home, partial(launch, arguments, secrets, home / LOG))
    what = "" if is_ready(find_detached(home)) else "Starting `coordinator up` in the background"
    try:
        with show_start(console, what):
            user = start.wait()
    except BaseException:
        with on_signals(pass_over):
            start.end()
        raise
    if user is None:
        sys.stderr.write(read_log(home / LOG))
        return start.find_exit_code()
    if start.is_own(user):
        say(console, "\n".join(line for line in read_log(home / LOG).splitlines() if not line.endswith(WAITS)))
    else:
        unused = ". The options of this command have no effect on it" if arguments or secrets else ""
        say(console, f"`coordinator up` already runs in the background (process {user.pid}), at {user.ui}{unused}")
    say(console, f"To end it: {name_program()} down")
    say(console, f"Its log: {home / LOG}")
    return ExitCode.COMPLETED


def is_ready(user: User | None) -> bool:
    """Whether a person can use what it has started."""
    return user is not None and user.stage == Stage.SERVING


class Start:
    """Starts the one in the background by calling `begin`, unless there is one that uses the server in `home`."""

    def __init__(self, home: Path, begin: "Callable[[], subprocess.Popen[bytes]]") -> None:
        self._home = home
        self._begin = begin
        self._process: subprocess.Popen[bytes] | None = None

    def wait(self) -> User | None:
        """Wait until it is ready, also if another command has started it; None if it could not be started.

        If one is ending, wait for it first. Raises SystemFailure if that takes too long.
        """
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            has_ended = self._process is not None and self._process.poll() is not None
            user = find_detached(self._home)
            if is_ready(user):
                return user
            if user is None and has_ended:
                return None
            if user is None and self._process is None:
                self._process = self._begin()
            time.sleep(LOOK_SECONDS)
        raise SystemFailure(
            f"`coordinator up` was not ready within {READY_SECONDS:.0f} seconds; see {self._home / LOG}"
        )

    def is_own(self, user: User) -> bool:
        """Whether `user` is the one that this has started."""
        return self._process is not None and self._process.pid == user.pid

    def end(self) -> None:
        """End what was started, as Ctrl-C does."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)

    def find_exit_code(self) -> ExitCode:
        """The exit code of what was started and could not start."""
        code = self._process.returncode if self._process else None
        return ExitCode(code) if code and code in set(ExitCode) else ExitCode.BLOCKED


def launch(arguments: Sequence[str], secrets: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Start `coordinator up` in a session of its own, so that closing the terminal does not reach it."""
    with log.open("ab") as output:
        return subprocess.Popen(
            python_command("-m", "flows.cli", "up", *arguments),
            cwd=own_directory(),
            env={**user_environment(), **absolute_places(), **secrets, DETACHED_VARIABLE: "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def read_log(log: Path) -> str:
    with suppress(OSError):
        return log.read_text(encoding="utf-8", errors="replace")
    return ""
