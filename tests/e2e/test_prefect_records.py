"""Prefect's records are deleted, changed, refused or unreachable under a run: git decides what happened."""

import asyncio
import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from chaos.prefect_proxy import Proxy, open_proxy
from checker import Meant, check, snapshot_user_state
from coordinator_host import Started
from e2e.conftest import Coordinator, ask_until, send_api
from e2e.test_messages import Start, count_starts, done, make_gated, open_gate, start
from e2e.test_whole_runs import find_run
from generated_graphs import Made, run_git

from flows.prefect_server import Child
from tasks_lib.reporting.run_report import INCOMPLETE

__all__ = ["start"]
pytestmark = pytest.mark.xdist_group("prefect, with much waiting")


def delete_run(coordinator: Coordinator, run: str) -> None:
    send_api(coordinator.api, "DELETE", f"flow_runs/{run}")


def delete_task_runs(coordinator: Coordinator, run: str) -> None:
    found = ask_until(lambda: coordinator.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}}), bool)
    for one in found:
        send_api(coordinator.api, "DELETE", f"task_runs/{one['id']}")


def set_state(name: str) -> Callable[[Coordinator, str], None]:
    def force(coordinator: Coordinator, run: str) -> None:
        body = {"state": {"type": name, "name": name.title()}, "force": True}
        coordinator.ask(f"flow_runs/{run}/set_state", body)

    return force


def rename(coordinator: Coordinator, run: str) -> None:
    send_api(coordinator.api, "PATCH", f"flow_runs/{run}", {"name": "other", "tags": []})
    set_state("PENDING")(coordinator, run)


MEDDLINGS: dict[str, tuple[Callable[[Coordinator, str], None], bool]] = {
    "deleted run": (delete_run, True),
    "deleted task runs": (delete_task_runs, False),
    "renamed and set to pending": (rename, False),
    "completed by hand": (set_state("COMPLETED"), False),
}


@pytest.mark.parametrize("name", MEDDLINGS)
def test_what_is_done_to_the_records_of_a_run_changes_neither_work_nor_exit_code(
    name: str, coordinator: Coordinator, start: Start, tmp_path: Path
) -> None:
    meddle, is_lost = MEDDLINGS[name]
    made = make_gated(tmp_path, 3, 1)
    before = snapshot_user_state(made.repository)
    process = start(made, 1)
    run = find_run(made)
    meddle(coordinator, run)

    open_gate(made)
    output, _ = process.communicate(timeout=300)

    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert output.count(f"! {INCOMPLETE}") == (2 if is_lost else 0), output  # Once as it happens, once in the summary.
    assert check(made.repository, before=before, meant=Meant(done(3), made.verify)) == []
    code, status = coordinator.run("status", made.repository)
    assert (code, INCOMPLETE in status) == (0, is_lost)
    if not is_lost:
        assert read_state(coordinator, run)["type"] == "COMPLETED"


def read_state(coordinator: Coordinator, run: str) -> dict[str, Any]:
    return coordinator.ask(f"flow_runs/{run}")["state"]


@contextmanager
def proxied(port: int) -> Generator[Proxy]:
    """A proxy before the server at `port`, in a thread, whose `refuse` may be set at any time."""
    ready, proxies, loop = threading.Event(), list[Proxy](), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with open_proxy(port) as proxy:
            proxies.append(proxy)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=run_in, args=(loop, serve()))
    thread.start()
    try:
        assert ready.wait(60)
        yield proxies[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


def run_in(loop: asyncio.AbstractEventLoop, work: Any) -> None:
    try:
        loop.run_until_complete(work)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


Refuse = Callable[[str, str], int | None]


def always(status: int) -> Refuse:
    return lambda method, path: status


def only(part: str, status: int) -> Refuse:
    """Refuse the paths in which the pattern `part` is found."""
    return lambda method, path: status if re.search(part, path) else None


SOME = only("/(artifacts|v2/concurr|logs|events)", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
REFUSALS: dict[str, tuple[Refuse, Refuse]] = {
    "login refused from the middle on": (only("/none", 0), always(HTTPStatus.UNAUTHORIZED)),
    "hangs up from the middle on": (only("/none", 0), always(0)),
    "artifacts, limits, logs and events refused": (SOME, SOME),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_server_that_refuses_stops_no_node_and_changes_no_exit_code(
    name: str, server: Child, coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 3, 1)
    tag(made, 3)
    before = snapshot_user_state(made.repository)
    with proxied(server.port) as proxy:
        proxy.refuse, later = REFUSALS[name]
        mine = replace(coordinator, api=proxy.url)
        process = mine.start("run", made.repository, "--max-sessions", "1")
        try:
            ask_until(lambda: process.poll() is not None or count_starts(made) >= 1, bool)
            proxy.refuse = later
            open_gate(made)
            output, _ = process.communicate(timeout=300)
        finally:
            end(process)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "Error logging" not in output
    assert output.count(f"! {INCOMPLETE}") == 2, output
    assert check(made.repository, before=before, meant=Meant(done(3), made.verify)) == []


def end(process: Started) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def tag(made: Made, nodes: int) -> None:
    """Give nodes a tag, so that Prefect asks its server about limits before it lets them begin."""
    for number in range(nodes):
        task = made.repository / made.tasks_dir / f"flat-{number}.md"
        task.write_text(task.read_text(encoding="utf-8").replace("status:", "tags: [held]\nstatus:"), encoding="utf-8")
    run_git(made.repository, "commit", "-qam", "Tag them")


def test_concurrency_limit_on_a_tag_delays_a_node_for_a_bounded_time(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 1, 0)
    tag(made, 1)
    body = {"name": "tag:held", "limit": 1, "active": True}
    coordinator.ask("v2/concurrency_limits/", body)
    # Somebody else has the one slot there is, and never gives it back.
    taken = {"names": ["tag:held"], "slots": 1, "mode": "concurrency"}
    coordinator.ask("v2/concurrency_limits/increment", taken)
    try:
        code, output = coordinator.run("run", made.repository)
    finally:
        send_api(coordinator.api, "DELETE", "v2/concurrency_limits/tag:held")
    assert code == 0, output
    assert "Prefect did not start flat-0" in output
