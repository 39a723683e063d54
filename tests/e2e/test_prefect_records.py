"""Prefect's records are deleted, changed, refused or unreachable under a run: git decides what happened."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from checker import Meant, check, snapshot_user_state
from e2e.conftest import Coordinator, ask_until
from e2e.test_messages import Start, done, make_gated, open_gate, start
from e2e.test_whole import find_run

INCOMPLETE = "Prefect's record of this run is incomplete"

__all__ = ["start"]
pytestmark = pytest.mark.xdist_group("prefect")


def delete_run(coordinator: Coordinator, run: str) -> None:
    httpx.delete(f"{coordinator.api}/flow_runs/{run}", timeout=60).raise_for_status()


def delete_task_runs(coordinator: Coordinator, run: str) -> None:
    found = ask_until(lambda: coordinator.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}}), bool)
    for one in found:
        httpx.delete(f"{coordinator.api}/task_runs/{one['id']}", timeout=60).raise_for_status()


def set_state(name: str) -> Callable[[Coordinator, str], None]:
    def change(coordinator: Coordinator, run: str) -> None:
        body = {"state": {"type": name, "name": name.title()}, "force": True}
        coordinator.ask(f"flow_runs/{run}/set_state", body)

    return change


def rename(coordinator: Coordinator, run: str) -> None:
    httpx.patch(f"{coordinator.api}/flow_runs/{run}", json={"name": "other", "tags": []}, timeout=60)


MEDDLINGS: dict[str, tuple[Callable[[Coordinator, str], None], bool]] = {
    "deleted run": (delete_run, True),
    "deleted task runs": (delete_task_runs, False),
    "state paused": (set_state("PAUSED"), False),
    "state completed": (set_state("COMPLETED"), False),
    "state crashed": (set_state("CRASHED"), False),
    "state scheduled": (set_state("SCHEDULED"), False),
    "renamed without tags": (rename, False),
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
