"""A local stack and a browser for the tests of Prefect's UI."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser.chromium import open_browser
from browser.shop import Shop, make_shop
from playwright.sync_api import Browser, Page
from user_isolation import without_prefect

BOUND_MS = 120_000
"""A generous bound for whatever a page waits for; a busy machine must not fail a test."""
END_SECONDS = 180
READY = "Press Ctrl-C to stop"


@dataclass(frozen=True, slots=True)
class Stack:
    """A `coordinator up` in progress, with its UI at `ui`; `place` is for repositories."""

    place: Path
    environment: dict[str, str]
    ui: str

    def call(self, *arguments: str | Path) -> str:
        """Run a command of coordinator's to its end, and return what it printed. Fails unless it exits with 0."""
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *map(str, arguments)],
            env=self.environment,
            cwd=self.place,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def add_shop(self, name: str, *options: str) -> Shop:
        """Make a repository that coordinator knows, with a deployment of its own."""
        shop = make_shop(self.place / name)
        self.call("init", shop.top)
        self.call("deploy", shop.top, *options)
        return shop


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def stack(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One `coordinator up` for all tests of a module; asks for the browser first, as nothing works without it."""
    place = tmp_path_factory.mktemp("stack")
    own = {"COORDINATOR_DATA_DIR": str(place / "data"), "HOME": str(place / "home")}
    (place / "home").mkdir()
    environment = without_prefect(os.environ) | own
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "up", "--port", "0"],
        env=environment,
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Stack(place, environment, read_link(process))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=END_SECONDS)


def read_link(process: "subprocess.Popen[str]") -> str:
    """The address of the UI, once the stack is ready."""
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if READY in line:
            return next(word for word in said.split() if word.startswith("http://"))
    raise AssertionError(f"coordinator up ended:\n{said}")


@pytest.fixture
def page(browser: Browser, stack: Stack, tmp_path: Path) -> Iterator[Page]:
    """A new tab; what it shows last is `last.png` in the test's directory, which is kept if the test fails."""
    opened = browser.new_page(base_url=stack.ui, viewport={"width": 1600, "height": 1000})
    opened.set_default_timeout(BOUND_MS)
    yield opened
    opened.screenshot(path=tmp_path / "last.png")
    opened.close()
