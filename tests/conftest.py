"""Set-up shared by all tests: the signals that child processes receive, and where and how fast the tests run."""

import atexit
import compileall
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from flows.importing import importing

TOP = Path(__file__).resolve().parent.parent
MEMORY = Path("/dev/shm")
ROOT = "PYTEST_DEBUG_TEMPROOT"
OWN_BYTECODE = re.compile(r"/(test_[^/]*|conftest)\.py$")
"""pytest compiles these itself, with its assertions."""
ROOM_BYTES = 4 << 30
"""A run of all tests uses a seventh of it."""

sys.dont_write_bytecode = False
"""Otherwise each worker would compile every test again."""

settings.register_profile("coordinator", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("coordinator")  # A busy machine must not fail a test.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", type=Path, help="where the tests of Prefect's UI write pictures of it")


def pytest_configure(config: pytest.Config) -> None:
    """Restore the default handling of every signal, since `nohup` and `&` start the tests with some ignored.

    Child processes inherit ignored signals, and the coordinator honours that, so a test that ends one with a signal
    would wait forever.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # The first session in a checkout lets Prefect create its tables; all other servers start with a copy of them.
    os.environ.setdefault("COORDINATOR_CACHE_DIR", str(TOP / ".local" / "cache"))
    if not hasattr(config, "workerinput"):
        compile_once()
        if is_roomy(MEMORY) and ROOT not in os.environ:
            root = tempfile.mkdtemp(prefix="pytest-", dir=MEMORY)
            os.environ[ROOT] = root
            atexit.register(remove_root, Path(root))  # Runs after pytest's own exit handlers.


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while modules are imported, nor later among what they made."""
    with importing():
        return (yield)


def remove_root(root: Path) -> None:
    """Keep nothing in memory but the directories of failed tests."""
    with suppress(OSError):  # Directories of failed tests are kept.
        for place in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
            place.rmdir()
        root.rmdir()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Use two workers more than there are cores, so that none idles while some wait for a server or a grace period."""
    return (os.cpu_count() or 1) + 2


def compile_once() -> None:
    """Compile the modules that hundreds of test processes import; each would do so itself where bytecode isn't written."""
    for package in ("coordinator_start", "flows", "tasks_lib", "tests"):
        compileall.compile_dir(TOP / package, quiet=2, rx=OWN_BYTECODE)


def is_roomy(place: Path) -> bool:
    """Whether programs can be executed from `place` and the repositories of all tests fit there.

    In memory, git and Prefect do not wait for a disk on each fsync.
    """
    if not os.access(place, os.W_OK | os.X_OK) or os.statvfs(place).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(place).free >= ROOM_BYTES
