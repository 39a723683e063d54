"""Runs a function in a child process that kills itself between two of its steps."""

import os
import signal
import sys
from collections.abc import Callable

STEPS = frozenset({"subprocess.Popen", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "tempfile.mkstemp"})
"""Audit events: nothing changes on disk between two of them."""


def run_in_child(work: Callable[[], object], kill_at: int | None) -> int:
    """Run `work` in a child process that kills itself before its `kill_at`-th step; return how many steps it did."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _run_counted(work, kill_at, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as steps:
        done = len(steps.read())
    _, status = os.waitpid(child, 0)
    if kill_at is None:
        assert status == 0
    else:
        assert os.WTERMSIG(status) == signal.SIGKILL
    return done


def _run_counted(work: Callable[[], object], kill_at: int | None, writer: int) -> None:
    done = 0

    def count(event: str, _: tuple[object, ...]) -> None:
        nonlocal done
        if event in STEPS:
            if done == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            os.write(writer, b".")

    sys.addaudithook(count)
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)
