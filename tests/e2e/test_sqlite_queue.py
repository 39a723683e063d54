"""The server that coordinator starts: how many people and processes may use its SQLite database at once."""

from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from e2e.conftest import Coordinator, send_api

from tasks_lib.process.http_clients import make_client

CLIENTS = 8
RUNS_EACH = 12


def test_it_refuses_nothing_as_locked_while_others_write(coordinator: Coordinator) -> None:
    """Prefect's own start answers about half of these requests with 503."""
    flow = coordinator.ask("flows/", {"name": "crowd"})["id"]

    def create(_: int) -> list[int]:
        body = {"flow_id": flow, "state": {"type": "PENDING"}}
        with make_client(coordinator.api, 120) as client:
            return [client.post("/flow_runs/", json=body).status_code for _ in range(RUNS_EACH)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [status for found in pool.map(create, range(CLIENTS)) for status in found]
    assert answers == [HTTPStatus.CREATED] * (CLIENTS * RUNS_EACH)


def test_a_work_queue_can_be_paused(coordinator: Coordinator) -> None:
    """Prefect opens a second session for this, which must not wait for the first one."""
    pool = coordinator.ask("work_pools/", {"name": "pausing", "type": "process"})["name"]
    place = f"work_pools/{pool}/queues/default"
    send_api(coordinator.api, "PATCH", place, {"is_paused": True})
    assert coordinator.ask(place)["is_paused"] is True
    send_api(coordinator.api, "DELETE", f"work_pools/{pool}")
