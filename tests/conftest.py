"""What all tests have in common: the signals that the programs they start can hear, and where and how quickly they run."""

import compileall
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30
"""A run of all tests takes a seventh of it."""

sys.dont_write_bytecode = False
"""Or each worker would compile every test anew."""


def pytest_configure(config: pytest.Config) -> None:
    """Hear every signal, even where these tests were started by `nohup` or with `&`, which have some ignored.

    What is ignored stays ignored in every program that is started, and coordinator honours that, so a test that ends
    one by a signal would wait for ever.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if not hasattr(config, "workerinput"):
        compile_once()
        if is_roomy(MEMORY):
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: where one waits, for a server or a grace period, no core does."""
    return (os.cpu_count() or 1) + 1


def compile_once() -> None:
    """Compile what tests start in hundreds of processes, which would each do so where none may write bytecode."""
    for package in ("coordinator_start", "flows", "tasks_lib", "tests"):
        compileall.compile_dir(TOP / package, quiet=2)


def is_roomy(place: Path) -> bool:
    """Whether programs can be run from `place`, and the repositories of all tests have room there.

    In memory, git and Prefect need not wait for a disk each time they make sure that something is kept.
    """
    if not os.access(place, os.W_OK | os.X_OK) or os.statvfs(place).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(place).free >= ROOM_BYTES
