"""Sessions on a second machine while the server's state is in Postgres, which is restarted in between."""

from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from e2e.conftest import RUN_SECONDS, Coordinator, ask_until
from e2e.postgres_server import require_programs, running_postgres
from e2e.spoke_machine import SpokeSite, add_repository, clone, list_left, read_turns, remote
from e2e.test_local_stack import up

from bench.second_machine import find_processes, open_machine
from tasks_lib.git.remote_sessions.session_remote import STATE

pytestmark = pytest.mark.xdist_group("up")


def test_nothing_is_lost_while_the_database_restarts(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        running_postgres(require_programs()) as postgres,
        up(tmp_path / "data", "--no-worker", "--postgres", postgres.url()) as stack,
        open_machine(SpokeSite, "north", port_of(stack.coordinator), tmp_path_factory.getbasetemp(), tmp_path) as site,
    ):
        for name in ("begun", "go"):
            site.signal(name)
        add_repository(site, "work", {})
        site.start_worker()
        hub = clone(
            site, tmp_path, {"outage": {"sh": "tell begun; await go; work"}, "after": {"depends_on": ["outage"]}}
        )
        run = stack.coordinator.start("run", hub.top)
        site.wait("begun")
        postgres.stop()
        site.signals["go"].send()
        ask_until(lambda: [ref for ref in hub.list_published(remote(site)) if ref.endswith(STATE)], bool)
        ask_until(lambda: httpx.post(f"{stack.coordinator.api}/flow_runs/count", json={}).status_code, is_fault)
        assert run.poll() is None, run.communicate()[0]
        postgres.start()
        output, _ = run.communicate(timeout=RUN_SECONDS)

        assert run.returncode == 0, output
        assert [len(read_turns(site, task_id)) for task_id in ("outage", "after")] == [1, 1]
        assert (hub.list_published(remote(site)), list_left(site), find_processes(site, "work")) == ([], [], [])
        site.stop_worker()
        stack.end()


def is_fault(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR


def port_of(coordinator: Coordinator) -> int:
    return httpx.URL(coordinator.api).port or 0
