"""Finds the Chromium that drives Prefect's UI: an installed one, or the one that `make chromium` put into the checkout."""

import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

INSTALLED = Path(__file__).resolve().parents[2] / ".local" / "chromium"
MISSING = "there is no Chromium on PATH or in .local/chromium; `make chromium` installs it, which needs apt"


@dataclass(frozen=True, slots=True)
class Chromium:
    """A program, and the environment that it needs."""

    program: Path
    environment: Mapping[str, str]


def find_chromium() -> Chromium:
    """The browser to test with. Without one, the test is skipped with a reason, or fails if `CI` is set."""
    if found := shutil.which("chromium"):
        return Chromium(Path(found), {})
    program = INSTALLED / "usr/lib/chromium/chromium"
    if program.exists():
        # Debian's packages, extracted here instead of installed, find each other's libraries by this.
        places = [library.parent for library in INSTALLED.rglob("*.so*")]
        return Chromium(program, {"LD_LIBRARY_PATH": os.pathsep.join(sorted({str(place) for place in places}))})
    if os.environ.get("CI") == "true":
        pytest.fail(MISSING)
    pytest.skip(MISSING)


@contextmanager
def open_browser() -> Generator[Browser]:
    """A headless browser while the block runs."""
    chromium = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium.program,
            # The sandbox needs user namespaces, which root in a container lacks; it only sees pages of our own server.
            # The tests' repositories are in /dev/shm, which may be small; a page that finds no room there hangs.
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            env={**os.environ, **chromium.environment},
        )
        yield browser
        browser.close()
