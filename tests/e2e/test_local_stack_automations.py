"""Automations: applied once by `coordinator up`, and as files for `prefect automation create`."""

import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from e2e.conftest import Coordinator, ask_until, send_api
from e2e.test_local_stack import up
from e2e.test_messages import make_gated
from webhook_server import serving

from flows.event_format import describe_event
from flows.resolved_event import VERB, name_place

TOP = Path(__file__).resolve().parents[2]
AUTOMATIONS = TOP / "deployments" / "automations"
NAME = "Run repository again when a blocker is resolved"

pytestmark = pytest.mark.xdist_group("up")


def list_automations(coordinator: Coordinator) -> list[dict[str, object]]:
    return coordinator.ask("automations/filter", {"automations": {"name": {"any_": [NAME]}}})


def test_resolving_starts_a_run_and_a_removed_automation_stays_removed(tmp_path: Path) -> None:
    made = make_gated(tmp_path / "place", 1, gated=0)
    data = tmp_path / "data"
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


EMIT = """
import sys
from pathlib import Path
from prefect.events.worker import EventsWorker
from flows.prefect_events import EventEmitter
from tasks_lib.model import Stage
from tasks_lib.runtime.status_board import Board, RunView

board = Board(RunView("run", "main", "", 1, "hub"), Path(sys.argv[1]))
board.listen(EventEmitter(board, "run", "shop").hear)
board.enter("pay", Stage.SESSION, "turn 1 as implementation-specialist, on north")
board.enter("pay", Stage.SESSION, "silent: on north, and its worker is offline; it is given up")
EventsWorker.drain_all()
"""


def test_a_silent_session_is_posted_by_the_automation(coordinator: Coordinator, tmp_path: Path) -> None:
    with serving() as hook, posting(coordinator, "post-when-silent.yaml", hook.url, tmp_path):
        run_program(coordinator, [sys.executable, "-c", EMIT, tmp_path / "run.json"])
        heard = ask_until(lambda: list(hook.heard), bool)
    said = "The session for pay of shop is silent: on north, and its worker is offline; it is given up"
    assert heard == [{"text": said}]


@contextmanager
def posting(coordinator: Coordinator, file: str, url: str, place: Path) -> Generator[None]:
    """Make the automation of `file` as a person does, with a webhook at `url`, and remove it afterwards."""
    text = (AUTOMATIONS / file).read_text(encoding="utf-8")
    filled = place / file
    filled.write_text(text.replace("BLOCK_ID", make_webhook(coordinator, url)), encoding="utf-8")
    prefect = Path(sys.executable).parent / "prefect"
    run_program(coordinator, [prefect, "automation", "create", "--from-file", filled])
    try:
        yield
    finally:
        named = {"automations": {"name": {"any_": [yaml.safe_load(text)["name"]]}}}
        for one in coordinator.ask("automations/filter", named):
            delete(coordinator, str(one["id"]))


def run_program(coordinator: Coordinator, words: Sequence[str | Path]) -> None:
    done = subprocess.run(
        words, env=coordinator.environment(), cwd=TOP, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def make_webhook(coordinator: Coordinator, url: str) -> str:
    """Make a Webhook block as a person does in the UI; return its id."""
    kind = str(coordinator.ask("block_types/slug/webhook")["id"])
    body = {"block_schemas": {"block_type_id": {"any_": [kind]}}}
    schema = str(coordinator.ask("block_schemas/filter", body)[0]["id"])
    made = {
        "name": f"chat-{uuid4().hex}",
        "block_type_id": kind,
        "block_schema_id": schema,
        "data": {"method": "POST", "url": url},
    }
    return str(send_api(coordinator.api, "POST", "block_documents/", made).json()["id"])


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
