"""Automations: applied once by `coordinator up`, and as files for `prefect automation create`."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from e2e.conftest import Coordinator, ask_until, send_api
from e2e.test_local_stack import up
from e2e.test_messages import make_gated

from flows.event_format import describe_event
from flows.resolved_event import VERB, name_place

TOP = Path(__file__).resolve().parents[2]
AUTOMATIONS = TOP / "deployments" / "automations"
NAME = "Run repository again when a blocker is resolved"

pytestmark = pytest.mark.xdist_group("up")


def list_automations(coordinator: Coordinator) -> list[dict[str, object]]:
    return coordinator.ask("automations/filter", {"automations": {"name": {"any_": [NAME]}}})


def test_resolving_starts_a_run_and_a_removed_automation_stays_removed(new_home: Path, tmp_path: Path) -> None:
    made = make_gated(tmp_path / "place", 1, gated=0)
    data = tmp_path / "data"
    shutil.copytree(new_home, data / "prefect")
    assert Coordinator(data, "").run("init", made.repository)[0] == 0
    with up(data, "--no-worker") as stack:
        found = list_automations(stack.coordinator)
        assert len(found) == 1
        emit_resolved(stack.coordinator, is_in_run=True)
        emit_resolved(stack.coordinator, is_in_run=False)
        runs = ask_until(lambda: stack.coordinator.ask("flow_runs/filter", {}), bool)
        delete(stack.coordinator, str(found[0]["id"]))
        with up(data, "--no-worker") as again:
            assert "was removed in Prefect" in again.said
        assert list_automations(stack.coordinator) == []
    assert len(runs) == 1
    assert runs[0]["parameters"]["options"]["repository"] == "repository"


def emit_resolved(coordinator: Coordinator, *, is_in_run: bool) -> None:
    """Send the event that `coordinator resolve` sends."""
    event = describe_event(
        VERB, {"id": "a"}, repository="repository", run="", node_id="a", labels=name_place(is_in_run=is_in_run)
    )
    when: dict[str, object] = {"id": str(uuid4()), "occurred": datetime.now(UTC).isoformat(), "related": []}
    send(coordinator, {**event, **when})


def send(coordinator: Coordinator, event: dict[str, object]) -> None:
    send_api(coordinator.api, "POST", "events", [event])


def delete(coordinator: Coordinator, automation: str) -> None:
    send_api(coordinator.api, "DELETE", f"automations/{automation}")


@pytest.mark.parametrize("file", sorted(AUTOMATIONS.glob("*.yaml")), ids=lambda file: file.stem)
def test_file_is_accepted_by_prefect_once_its_placeholders_are_replaced(
    coordinator: Coordinator, file: Path, tmp_path: Path
) -> None:
    made = yaml.safe_load(file.read_text(encoding="utf-8"))
    text = file.read_text(encoding="utf-8").replace("REPOSITORY", "shop")
    filled = tmp_path / "automation.yaml"
    filled.write_text(text.replace("DEPLOYMENT_ID", str(uuid4())).replace("BLOCK_ID", str(uuid4())), encoding="utf-8")
    done = subprocess.run(
        [Path(sys.executable).parent / "prefect", "automation", "create", "--from-file", filled],
        env=coordinator.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    name = str(made["name"]).replace("REPOSITORY", "shop")
    body = {"automations": {"name": {"any_": [name]}}}
    assert len(coordinator.ask("automations/filter", body)) == 1
