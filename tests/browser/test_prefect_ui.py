"""A person with nothing but Prefect's UI starts, watches, stops, continues, resolves and schedules runs."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from browser.conftest import Person, Stack
from browser.shop import TASKS, Shop, make_shop, share_shop
from coordinator_host import Started
from e2e.conftest import Coordinator, ask_until, read_until
from playwright.sync_api import expect

from bench.second_machine import READY

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Shop:
    """The only repository, so that forms have chosen it."""
    return stack.add_shop("shop")


def test_a_run_is_started_stopped_continued_and_resolved_in_the_browser(person: Person, shop: Shop) -> None:
    start_and_watch(person)
    first = person.page.url.partition("/flow-run/")[2].partition("?")[0]
    cancel(person, shop)
    retry(person, shop)
    read_report(person)
    resolve(person, shop, first)
    read_history(person)


def start_and_watch(person: Person) -> None:
    """Start a run from the form, and watch its nodes."""
    person.open_form("shop")
    person.take_picture("run-form")
    person.send_form()
    person.choose("Task Runs")
    person.expect_nodes(cart="Running", search="Merged")
    person.take_picture("run-page", is_reloaded=True)


def cancel(person: Person, shop: Shop) -> None:
    """Cancel the run: its sessions are ended, and nothing of them lands."""
    person.page.get_by_role("button", name="Cancel", exact=True).click()
    person.press(person.page.get_by_role("button", name="Confirm"), "/set_state")
    expect(person.page.get_by_role("button", name="Retry")).to_be_visible()
    person.choose("Task Runs")
    person.expect_nodes(cart="Aborted")
    assert "Merge feat/cart: Add a cart" not in shop.read_subjects()


def retry(person: Person, shop: Shop) -> None:
    """Retry the run: it continues from git, up to what needs a person."""
    shop.open_gate()
    person.page.get_by_role("button", name="Retry").click()
    person.press(person.page.get_by_role("button", name="Retry").last, "/set_state")
    person.expect_state("Failed")
    person.choose("Task Runs")
    person.expect_nodes(pay="Blocked", mail="Skipped")
    assert "Merge feat/cart: Add a cart" in shop.read_subjects()


def read_report(person: Person) -> None:
    """Read the one report of the run, which says how each node ended."""
    page = person.page
    person.choose("Artifacts")
    expect(page.get_by_text("coordinator-report")).to_have_count(1)
    page.get_by_text("coordinator-report").click()
    expect(page.get_by_role("heading", name="Run of shop")).to_be_visible()
    expect(page.get_by_role("cell", name="Take payments")).to_be_visible()
    person.take_picture("report")


def resolve(person: Person, shop: Shop, first: str) -> None:
    """Resolve the blocker from a form: the automation starts a run besides `first` by itself, and everything lands."""
    shop.plan["pay"].pop("block_with")
    shop.write_plan()
    person.open_form("resolve-node")
    person.send_form("pay", "Only euros.")
    person.expect_state("Completed")
    assert any(subject.startswith("resolved(resolve-pay-1)") for subject in shop.read_subjects())
    person.open_deployment("shop")
    person.page.locator(f"a[href*='/runs/flow-run/']:not([href*='{first}'])").first.click()
    person.expect_state("Completed")
    assert {f"Merge feat/{name}: {TASKS[name][0]}" for name in TASKS} <= set(shop.read_subjects())


def read_history(person: Person) -> None:
    """Find both runs in the history."""
    page = person.page
    page.goto("/runs")
    expect(page.get_by_role("link", name="shop", exact=True).first).to_be_visible()
    person.expect_state("Failed")
    person.expect_state("Completed")
    person.take_picture("runs")


def test_each_field_of_a_form_is_explained_in_the_browser(person: Person, shop: Shop) -> None:
    person.open_form("resolve-node")
    for words in ("Repository", "Node", "Answer", "What the agent needs to know."):
        expect(person.page.get_by_text(words).first).to_be_visible()
    person.page.locator("textarea").nth(0).fill("pay")
    person.page.locator("textarea").nth(1).fill("Only euros.")
    person.take_picture("resolve-form")


def test_a_schedule_is_seen_and_paused_in_the_browser(person: Person, stack: Stack, shop: Shop) -> None:
    stack.call("deploy", shop.top, "--cron", "0 2 * * *", "--timezone", "Europe/Berlin")
    person.open_deployment("shop")
    switch = person.page.locator("[role=switch]").first
    expect(switch).to_have_attribute("aria-checked", "true")
    person.take_picture("deployment")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
    assert "paused" in stack.call("deploy", shop.top)


def test_the_machine_of_each_session_is_shown_in_the_browser(person: Person, stack: Stack) -> None:
    """The last test here, since forms have chosen the only repository in those above."""
    shop = make_shop(stack.place / "market")
    remote = share_shop(shop)
    stack.call("init", shop.top)
    stack.call("deploy", shop.top)
    with running_spokes(stack, remote, "north", "south"):
        person.open_form("market")
        person.send_form()
        run = person.page.url.partition("/flow-run/")[2].partition("?")[0]
        ask_until(lambda: read_sessions(stack, run), lambda said: "north" in said and "south" in said)
        person.page.reload()
        person.choose("Artifacts")
        person.page.get_by_text("coordinator-sessions").click()
        for machine in ("north", "south"):
            expect(person.page.get_by_text(machine, exact=True).first).to_be_visible()
        person.take_picture("machines")
        shop.open_gate()
        person.page.goto(f"/runs/flow-run/{run}")
        person.expect_state("Completed")
    assert {f"Merge feat/{name}: {TASKS[name][0]}" for name in TASKS} <= set(shop.read_subjects())


@contextmanager
def running_spokes(stack: Stack, remote: Path, *names: str) -> Generator[None]:
    """Run workers for sessions of `remote` under these names, each with a data directory of its own."""
    with ExitStack() as started:
        workers = [started.enter_context(start_spoke(stack, remote, name)) for name in names]
        for worker in workers:
            read_until(worker, READY)
        yield


@contextmanager
def start_spoke(stack: Stack, remote: Path, name: str) -> Generator[Started]:
    machine = Coordinator(stack.place / name, stack.coordinator.api)
    code, output = machine.run("spoke", "add", remote)
    assert code == 0, output
    worker = machine.start("spoke", "start", "--name", name)
    try:
        yield worker
    finally:
        worker.terminate()
        worker.wait()


def read_sessions(stack: Stack, run: str) -> str:
    """The table of a run's sessions, "" before it is written."""
    body = {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": ["coordinator-sessions"]}}}
    found = stack.coordinator.ask("artifacts/filter", body)
    return str(found[0]["data"]) if found else ""
