"""Ctrl-C, a server of our own, retries and the deployment: what a person meets besides a run that goes well."""

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from checker import Meant, check, snapshot_user_state
from checker_traces import text
from e2e.checkout_deployments import deploy, working
from e2e.conftest import Coordinator, ask_until, read_until
from e2e.test_whole_runs import find_run, make_flat, read_task_runs
from generated_graphs import Made, make_repository, run_git

pytestmark = pytest.mark.xdist_group("prefect, with workers")


def test_control_c_keeps_the_work_and_the_next_run_goes_on(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_flat(tmp_path, 3)
    before = snapshot_user_state(made.repository)
    process = coordinator.start("run", made.repository)
    read_until(process, "session: turn 1")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "run again to continue" in output
    states = {one["state_name"] for one in read_task_runs(coordinator, find_run(made), 1)}
    assert states <= {"Aborted", "Merged"}
    assert "Aborted" in states

    code, output = coordinator.run("run", made.repository)

    assert code == 0, output
    done = {f"flat-{number}": "completed" for number in range(3)}
    assert check(made.repository, before=before, meant=Meant(done, made.verify)) == []


def test_server_leaves_the_nodes_of_a_cancelled_run_to_the_run(coordinator: Coordinator) -> None:
    """With Prefect's default, 20 seconds, it was often faster than the run, and called its nodes Cancelled."""
    found = coordinator.ask("admin/settings")["server"]["services"]["cancellation_cleanup"]
    assert (found["enabled"], found["loop_seconds"]) == (True, 600)


def test_failed_attempt_is_retried_by_prefect_and_its_number_is_in_the_trailer(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_flat(tmp_path, 1)
    made.behave("flat-0", exit_status=3, seconds=0)

    code, output = coordinator.run("run", made.repository)

    assert code == 0, output
    assert "Attempt: 2" in text(made.repository, "log", "-1", "--first-parent", "--format=%B", "main")
    runs = read_task_runs(coordinator, find_run(made), 1)
    assert [(one["name"], one["state_name"], one["run_count"]) for one in runs] == [("flat-0", "Merged", 2)]


def test_run_without_a_server_brings_its_own_and_leaves_nothing_running(tmp_path: Path) -> None:
    made = make_flat(tmp_path, 1)
    own = Coordinator(tmp_path / "data", "")
    process = own.start("run", made.repository)
    seen = read_until(process, "Watch it at ")
    link = seen.rsplit("Watch it at ", 1)[1].strip()
    assert httpx.get(link, headers={"Accept": "text/html"}).status_code == 200
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, seen + output
    assert f"{link.split('/runs')[0]}" not in output
    with pytest.raises(httpx.ConnectError):
        httpx.get(link)


def test_faults_are_named_all_at_once_and_nothing_is_started(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_repository(tmp_path, nodes=14, seed=2)
    tasks = made.repository / made.tasks_dir
    (tasks / "a.md").write_text("---\nid: a\nname: A\ndepends_on: [b]\n---\n", encoding="utf-8")
    (tasks / "b.md").write_text("---\nid: b\nname: B\ndepends_on: [a, shared/lefd]\n---\n", encoding="utf-8")
    (tasks / "c.md").write_text("---\nid: [c\n---\n", encoding="utf-8")
    settings = made.repository / "coordinator.yaml"
    settings.write_text(settings.read_text(encoding="utf-8") + "verfy: [make]\n", encoding="utf-8")
    run_git(made.repository, "add", "-A")
    run_git(made.repository, "commit", "-qm", "Faults")
    refs = text(made.repository, "for-each-ref")

    code, output = coordinator.run("run", made.repository)

    assert code == 2
    assert "a -> b -> a" in output
    assert 'Did you mean "verify"?' in output
    assert 'Did you mean "shared/left"?' in output
    assert f"{made.tasks_dir}/c.md:" in output
    assert "Traceback" not in output
    assert text(made.repository, "for-each-ref") == refs
    assert not (made.repository / ".worktrees").exists()
    assert made.read_journal() == []


def test_deployment_is_run_by_a_worker_and_refuses_what_is_not_registered(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_flat(tmp_path, 1)
    assert coordinator.run("run", made.repository, "--only", "flat-0", "--dry-run")[0] == 0
    assert coordinator.run("init", made.repository)[0] == 0
    create = f"deployments/{deploy(coordinator)}/create_flow_run"
    good = coordinator.ask(create, {"parameters": {"options": {"repository": str(made.repository)}}})["id"]
    bad = coordinator.ask(create, {"parameters": {"options": {"repository": "/somewhere/else"}}})["id"]
    wrong = {"parameters": {"options": {"repository": "x", "command": ["rm"]}}}
    refused = httpx.post(f"{coordinator.api}/{create}", json=wrong, timeout=300)
    assert refused.status_code in (409, 422)
    with working(coordinator):
        assert wait_for_end(coordinator, good)["type"] == "COMPLETED"
        state = wait_for_end(coordinator, bad)
    assert (state["type"], "registered" in state["message"]) == ("FAILED", True)
    assert status_of(made, "flat-0") == "completed"


def wait_for_end(coordinator: Coordinator, flow_run: str) -> dict[str, Any]:
    def read_state() -> dict[str, Any]:
        return coordinator.ask(f"flow_runs/{flow_run}")["state"]

    return ask_until(read_state, lambda state: state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"))


def status_of(made: Made, task_id: str) -> str:
    shown = text(made.repository, "show", f"main:{made.tasks_dir}/{task_id}.md")
    return next(line for line in shown.splitlines() if line.startswith("status:")).split(":")[1].strip()
