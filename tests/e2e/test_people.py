"""People in a run, through the command line and with the browser alone: they take, land, and decide what lands."""

import json
import subprocess
from pathlib import Path

import pytest
from checker import Meant, check, snapshot_user_state
from compatibility.golden import keep_promise
from e2e.checkout_deployments import working
from e2e.conftest import Coordinator, ask_until
from e2e.test_compatibility_runs import list_events, read_events
from e2e.test_interrupt import status_of, wait_for_end
from e2e.test_local_stack_automations import posting
from e2e.test_messages import make_gated, open_gate
from e2e.test_resolving import read_status, started
from e2e.test_whole_runs import find_run, make_flat
from generated_graphs import Made
from webhook_server import serving

pytestmark = pytest.mark.xdist_group("prefect, with workers")


def git(place: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=place, check=True)


def commit(made: Made, path: str, text: str) -> None:
    (made.repository / path).write_text(text, encoding="utf-8")
    git(made.repository, "add", "--", path)
    git(made.repository, "commit", "-qm", f"Write {path}")


def assign_to_person(made: Made, node: str) -> None:
    text = (made.repository / f"tasks/{node}.md").read_text(encoding="utf-8")
    commit(made, f"tasks/{node}.md", text.replace("status: pending\n", "status: pending\nassignee: human\n"))


def work_by_hand(made: Made, node: str) -> Path:
    worktree = made.repository / ".worktrees" / "feat" / node
    (worktree / "hand.txt").write_text("by hand\n", encoding="utf-8")
    git(worktree, "add", "-A")
    git(worktree, "commit", "-qm", "Work by hand")
    return worktree


def test_person_takes_works_and_lands_a_task_during_a_run(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 2, gated=1)
    assign_to_person(made, "flat-1")
    before = snapshot_user_state(made.repository)
    with started(coordinator, made) as process:
        taken = coordinator.run("take", "flat-1", "--repo", made.repository, "--json")
        work_by_hand(made, "flat-1")
        landed = coordinator.run("land", "flat-1", "--repo", made.repository)
        ask_until(lambda: status_of(made, "flat-1"), lambda status: status == "completed")
        open_gate(made)
        output, _ = process.communicate(timeout=120)
    assert (taken[0], json.loads(taken[1])["wish"]) == (0, "take"), taken
    assert landed[0] == 0, landed
    assert process.returncode == 0, output
    statuses: dict[str, str] = dict.fromkeys(("flat-0", "flat-1"), "completed")
    assert check(made.repository, before=before, meant=Meant(statuses, made.verify)) == []


def test_run_that_is_killed_loses_nothing_of_a_person_who_lands_then_without_a_run(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 2, gated=1)
    assign_to_person(made, "flat-1")
    with started(coordinator, made) as process:
        assert coordinator.run("take", "flat-1", "--repo", made.repository)[0] == 0
        worktree = work_by_hand(made, "flat-1")
        (worktree / "draft.txt").write_text("not yet\n", encoding="utf-8")
    assert process.returncode == -9
    assert coordinator.run("cleanup", made.repository)[0] == 0
    assert (worktree / "draft.txt").read_text(encoding="utf-8") == "not yet\n"
    refused = coordinator.run("land", "flat-1", "--repo", made.repository)
    assert (refused[0], "has uncommitted changes: draft.txt" in refused[1]) == (1, True), refused
    (worktree / "draft.txt").unlink()
    code, output = coordinator.run("land", "flat-1", "--repo", made.repository)
    assert code == 0, output
    assert status_of(made, "flat-1") == "completed"
    open_gate(made)
    assert coordinator.run("run", made.repository)[0] == 0


def test_browser_is_enough_to_land_what_waits_for_a_person(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_flat(tmp_path, 1)
    made.behave("flat-0", seconds=0.0)
    text = (made.repository / "coordinator.yaml").read_text(encoding="utf-8")
    commit(made, "coordinator.yaml", f"{text}\nland: {{ask: true}}\n")
    before = snapshot_user_state(made.repository)
    with serving() as hook, posting(coordinator, "post-when-waiting.yaml", hook.url, tmp_path):
        code, output = coordinator.run("run", made.repository)
        heard = ask_until(lambda: list(hook.heard), bool)
    assert (code, "coordinator land flat-0" in output) == (3, True), output
    said = f"flat-0 of {made.repository.name} waits for a person to land it: `coordinator land flat-0`"
    assert heard == [{"text": said}]
    events = list_events(read_events(coordinator, find_run(made)))
    keep_promise("event-node-waiting", events["coordinator.node.waiting"])
    assert read_status(coordinator, made, "flat-0") == "Waiting"
    code, output = coordinator.run("deploy", made.repository)
    assert code == 0, output
    deployment = coordinator.ask("deployments/name/land-node/land-node")["id"]

    with working(coordinator):
        given = {"parameters": {"repository": made.repository.name, "node": "flat-0"}}
        asked = coordinator.ask(f"deployments/{deployment}/create_flow_run", given)["id"]
        state = wait_for_end(coordinator, asked)
        assert state["type"] == "COMPLETED", state
        assert "flat-0 may land. The flow run" in state["message"]
        wait_for_end(coordinator, state["message"].rpartition("(")[2].partition(")")[0])
    assert status_of(made, "flat-0") == "completed"
    assert check(made.repository, before=before, meant=Meant({"flat-0": "completed"}, made.verify)) == []
