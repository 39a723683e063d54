"""A local stack, a browser, and what people do in Prefect's UI, for the tests of it."""

import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from browser.chromium import open_browser
from browser.shop import Shop, make_shop
from e2e.conftest import Coordinator
from e2e.test_local_stack import up
from playwright.sync_api import Browser, Error, Locator, Page, Request, expect
from playwright.sync_api import TimeoutError as WaitedTooLong

BOUND_MS = 120_000
"""A generous bound for whatever a page waits for; a busy machine must not fail a test."""
WIDTH, HEIGHT = 1440, 900
TAB_MS = 40_000
"""How long a tab may show nothing before another one is opened in its place."""
CALM = """
const draw = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (frame) => setTimeout(() => draw(frame), 250);
document.addEventListener("DOMContentLoaded", () => {
  const style = document.createElement("style");
  style.textContent = "*, ::before, ::after { animation: none !important; transition: none !important; }";
  document.head.append(style);
});
"""
"""Draws four times a second what moves: the processor does what a graphics card would, sixty times a second."""
PICTURE_MS = 10_000
STILL_MS = 2_500
"""After this time a page of Prefect's UI no longer moves; only pictures wait for it."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A `coordinator up` in progress; `place` is for repositories."""

    place: Path
    coordinator: Coordinator

    @property
    def ui(self) -> str:
        return self.coordinator.api.removesuffix("/api")

    def call(self, *arguments: str | Path) -> str:
        """Run a command of coordinator's to its end, and return what it printed. Fails unless it exits with 0."""
        code, output = self.coordinator.run(*arguments)
        assert code == 0, output
        return output

    def add_shop(self, name: str, *options: str) -> Shop:
        """Make a repository that coordinator knows, with a deployment of its own."""
        shop = make_shop(self.place / name)
        self.call("init", shop.top)
        self.call("deploy", shop.top, *options)
        return shop


@dataclass  # Without slots, since playwright keeps attributes of its own here.
class Person:
    """Somebody at the tab `page`, who takes pictures of it if `pictures` is a directory."""

    browser: Browser
    ui: str
    pictures: Path | None
    page: Page = field(init=False)
    unanswered: list[Request] = field(default_factory=list[Request])

    def __post_init__(self) -> None:
        self.open_tab()

    def open_tab(self) -> None:
        self.page = self.browser.new_page(base_url=self.ui, viewport={"width": WIDTH, "height": HEIGHT})
        if not self.pictures:
            self.page.add_init_script(CALM)
        self.page.set_default_timeout(BOUND_MS)
        self.unanswered.clear()
        self.page.on("request", self._remember)
        self.page.on("requestfinished", self._forget)
        self.page.on("requestfailed", self._forget)

    def close_tab(self, picture: Path) -> None:
        """Close the tab; take a picture and print what it waits for, which pytest shows if the test fails."""
        print(f"{self.page.url} waits for {[request.url for request in self.unanswered] or 'nothing'}")
        with suppress(Error):
            self.page.screenshot(path=picture, timeout=PICTURE_MS)
        self.page.close()

    def _remember(self, request: Request) -> None:
        self.unanswered.append(request)

    def _forget(self, request: Request) -> None:
        with suppress(ValueError):  # It began before the tab was opened.
            self.unanswered.remove(request)

    def open_deployment(self, name: str) -> None:
        """Open the page of a deployment, in another tab if this one hangs, which Chromium did once."""
        try:
            self.page.goto("/deployments", timeout=TAB_MS)
            self.page.get_by_role("link", name=name, exact=True).first.click(timeout=TAB_MS)
        except WaitedTooLong as error:
            waits = [request.url for request in self.unanswered]
            warnings.warn(f"a tab hung at {self.page.url}, waiting for {waits}: {error}", stacklevel=2)
            self.page.close()
            self.open_tab()
            self.page.goto("/deployments")
            self.page.get_by_role("link", name=name, exact=True).first.click()

    def open_form(self, deployment: str) -> None:
        """Open the form with which a run of a deployment starts."""
        self.open_deployment(deployment)
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_text("Quick run").click()
        expect(self.page.get_by_text("Validate parameters")).to_be_visible()

    def send_form(self, *answers: str) -> None:
        """Fill the empty text fields with `answers`, start the run, and open its page."""
        for number, answer in enumerate(answers):
            self.page.locator("textarea").nth(number).fill(answer)
        self.press(self.page.get_by_role("button", name="Run", exact=True).last, "/create_flow_run")
        self.page.locator("a[href*='/runs/flow-run/']").first.click()
        expect(self.page).to_have_url(re.compile(r"/runs/flow-run/"))

    def press(self, button: Locator, request: str) -> None:
        """Click, and see the server accept the request that this sends; its path ends with `request`."""
        with self.page.expect_response(lambda answer: answer.url.endswith(request)) as answered:
            button.click()
        assert answered.value.ok, f"{answered.value.status} for {request}"

    def choose(self, tab: str) -> None:
        self.page.get_by_text(tab, exact=True).first.click()

    def expect_state(self, name: str) -> None:
        """Wait until the page of a run shows this state of the run."""
        expect(self.page.get_by_text(name, exact=True).first).to_be_visible()

    def expect_nodes(self, **states: str) -> None:
        """Wait until the page of a run lists these task runs, each with its state."""
        for name, state in states.items():
            card = self.page.locator(".task-run-list-item", has=self.page.get_by_role("link", name=name, exact=True))
            expect(card.filter(has_text=state).first).to_be_visible()

    def take_picture(self, name: str, *, is_reloaded: bool = False) -> None:
        """Write `name`.png once nothing on the page moves; without `pictures`, do nothing.

        A graph that has grown is drawn whole only after the page is loaded again.
        """
        if self.pictures:
            if is_reloaded:
                self.page.reload()
            self.page.wait_for_timeout(STILL_MS)
            self.page.screenshot(path=self.pictures / f"{name}.png")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def stack(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One `coordinator up` for all tests; asks for the browser first, as nothing works without it."""
    place = tmp_path_factory.mktemp("stack")
    data = place / "data"
    data.mkdir()
    with up(data) as running:
        yield Stack(place, running.coordinator)
        running.end()


@pytest.fixture
def person(browser: Browser, stack: Stack, tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[Person]:
    """A new tab; what it shows last is `last.png` in the test's directory, which is kept if the test fails."""
    person = Person(browser, stack.ui, pytestconfig.getoption("pictures"))
    yield person
    person.close_tab(tmp_path / "last.png")


def pytest_configure() -> None:
    expect.set_options(timeout=BOUND_MS)
