"""A person with nothing but Prefect's UI starts, watches, stops, continues, resolves and schedules runs."""

import pytest
from browser.conftest import Person, Stack
from browser.shop import TASKS, Shop
from playwright.sync_api import expect

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
