"""What all tests have in common: the signals that the programs they start can hear, and where and how quickly they run."""

import atexit
import compileall
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TOP = Path(__file__).resolve().parent.parent
MEMORY = Path("/dev/shm")
ROOT = "PYTEST_DEBUG_TEMPROOT"
ROOM_BYTES = 4 << 30
"""A run of all tests takes a seventh of it."""

sys.dont_write_bytecode = False
"""Or each worker would compile every test anew."""

settings.register_profile("coordinator", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("coordinator")  # A busy machine fails no test.


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
        if is_roomy(MEMORY) and ROOT not in os.environ:
            root = tempfile.mkdtemp(prefix="pytest-", dir=MEMORY)
            os.environ[ROOT] = root
            atexit.register(remove_root, Path(root))  # After what pytest registers itself, which runs first.


def remove_root(root: Path) -> None:
    """Leave nothing in memory but the directories of tests that failed."""
    with suppress(OSError):  # What failed is kept.
        for place in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
            place.rmdir()
        root.rmdir()


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
