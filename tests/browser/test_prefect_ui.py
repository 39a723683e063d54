"""A person with nothing but Prefect's UI starts, watches, stops, continues, resolves and schedules runs."""

import re
from http import HTTPStatus

import pytest
from browser.conftest import BOUND_MS, Stack
from browser.shop import TASKS, Shop
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.xdist_group("browser")
expect.set_options(timeout=BOUND_MS)
TRIES = 10


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Shop:
    """The only repository, so that forms have chosen it."""
    return stack.add_shop("shop")


def open_deployment(page: Page, name: str) -> None:
    page.goto("/deployments")
    page.get_by_role("link", name=name, exact=True).first.click()


def start_quick_run(page: Page, name: str, *answers: str) -> None:
    """Start a run of a deployment from its form, with `answers` in the empty fields, and open its page."""
    open_deployment(page, name)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Quick run").click()
    expect(page.get_by_text("Validate parameters")).to_be_visible()
    if answers:
        fields = page.locator("textarea")
        for number, answer in enumerate(answers):
            fields.nth(number).fill(answer)
    submit(page)
    page.locator("a[href*='/runs/flow-run/']").first.click()
    expect(page).to_have_url(re.compile(r"/runs/flow-run/"))


def submit(page: Page) -> None:
    """Press the form's button; again if the server answers that its database is locked, as a person would."""
    for _ in range(TRIES):
        with page.expect_response(lambda answer: answer.url.endswith("/create_flow_run")) as answered:
            page.get_by_role("button", name="Run", exact=True).last.click()
        if answered.value.ok:
            return
        assert answered.value.status == HTTPStatus.SERVICE_UNAVAILABLE
    raise AssertionError("Prefect did not accept the run")


def open_tab(page: Page, name: str) -> None:
    page.get_by_text(name, exact=True).first.click()


def expect_nodes(page: Page, **states: str) -> None:
    """Wait until the page of a run lists these task runs, each with its state."""
    for name, state in states.items():
        card = page.locator(".task-run-list-item", has=page.get_by_role("link", name=name, exact=True))
        expect(card.filter(has_text=state).first).to_be_visible()


def test_a_run_is_started_stopped_continued_and_resolved_in_the_browser(page: Page, shop: Shop) -> None:
    # Started from the form, and watched.
    start_quick_run(page, "shop")
    open_tab(page, "Task Runs")
    expect_nodes(page, cart="Running", search="Merged")
    first = page.url.partition("/flow-run/")[2].partition("?")[0]

    # Cancelled: its sessions are ended, and nothing of them lands.
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    expect_nodes(page, cart="Aborted")
    assert "Merge feat/cart: Add a cart" not in shop.read_subjects()

    # Retried: it continues from git, up to what needs a person.
    shop.open_gate()
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("button", name="Retry").last.click()
    expect(page.get_by_text("Failed", exact=True).first).to_be_visible()
    open_tab(page, "Task Runs")
    expect_nodes(page, pay="Blocked", mail="Skipped")
    assert "Merge feat/cart: Add a cart" in shop.read_subjects()

    # Resolved from a form; the automation starts the next run by itself, and everything lands.
    shop.plan["pay"].pop("block_with")
    shop.write_plan()
    start_quick_run(page, "resolve-node", "pay", "Only euros.")
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    assert any(subject.startswith("resolved(resolve-pay-1)") for subject in shop.read_subjects())
    open_deployment(page, "shop")
    page.locator(f"a[href*='/runs/flow-run/']:not([href*='{first}'])").first.click()
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible()
    assert {f"Merge feat/{name}: {TASKS[name][0]}" for name in TASKS} <= set(shop.read_subjects())

    # Its report says how each node ended.
    open_tab(page, "Artifacts")
    page.get_by_text("coordinator-report").first.click()
    expect(page.get_by_role("heading", name="Run of shop")).to_be_visible()
    expect(page.get_by_role("cell", name="Take payments")).to_be_visible()


def test_a_schedule_is_seen_and_paused_in_the_browser(page: Page, stack: Stack, shop: Shop) -> None:
    stack.call("deploy", shop.top, "--cron", "0 2 * * *", "--timezone", "Europe/Berlin")
    open_deployment(page, "shop")
    switch = page.locator("[role=switch]").first
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
    assert "paused" in stack.call("deploy", shop.top)
