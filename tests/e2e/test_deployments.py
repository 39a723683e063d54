"""`coordinator deploy` with a real server: runs by a worker elsewhere, schedules, and what people change in Prefect."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e.checkout_deployments import deploy as deploy_checkout
from e2e.conftest import Coordinator, ask_until, send_api
from e2e.installed_wheel import TOP, Installed, install
from e2e.test_interrupt import status_of, wait_for_end
from e2e.test_whole_runs import make_flat
from generated_graphs import Made, run_git

from flows.prefect_server import LOOPBACK, Child
from tasks_lib.git.repository_lock import RunLock

pytestmark = pytest.mark.xdist_group("prefect, with deployments")
PREPARE = """
from flows.local_stack.preparation import prepare
print(*prepare(api="", has_worker=True).lines, sep="\\n")
"""
"""As `coordinator up` makes the deployments of all registered repositories."""
FORGED = "Merge feat/flat-0: Flat 0\n\nTask: flat-0\nAttempt: 1\nVerified: none"
"""A commit that looks as if coordinator had made it, but is not a merge."""
NIGHTLY = ("--cron", "0 2 * * *", "--timezone", "Europe/Berlin")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An installed coordinator with a worker, started by the command that its `deploy` printed."""

    installed: Installed
    made: Made
    told: dict[str, Any]

    @property
    def coordinator(self) -> Coordinator:
        return Coordinator(self.installed.data, f"{self.told['server']}/api")

    def deploy(self, *arguments: str | Path) -> dict[str, Any]:
        return deploy_installed(self.installed, *arguments)


def forget_workers(api: str) -> None:
    """Remove the workers of other tests, which Prefect takes for online for a minute and a half after their end."""
    with suppress(httpx.HTTPStatusError):  # The pool does not exist yet.
        for worker in send_api(api, "POST", "work_pools/coordinator/workers/filter", {}).json():
            send_api(api, "DELETE", f"work_pools/coordinator/workers/{worker['name']}")


@pytest.fixture(scope="module")
def elsewhere(server: Child, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    place = tmp_path_factory.mktemp("elsewhere")
    installed = install(place / "installed")
    process = server.process()
    assert process
    # Its own server is the shared one, as if its `coordinator up` had started that.
    (installed.data / "prefect").symlink_to(process.environ()["PREFECT_HOME"])
    made = make_flat(place, 1)
    forget_workers(f"http://{LOOPBACK}:{server.port}/api")
    told = deploy_installed(installed, made.repository)
    (command,) = [line.partition("Start one: ")[2] for line in told["warnings"] if "No worker is online" in line]
    assert str(installed.bin / "prefect") in shlex.split(command)
    worker = subprocess.Popen(
        ["sh", "-c", f"exec env {command}"],
        cwd=place / "installed/home", env=installed.environment({"PREFECT_WORKER_QUERY_SECONDS": "1"}),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield Elsewhere(installed, made, told)
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait(timeout=300)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A repository with one open node, whose agent takes two seconds."""
    return make_flat(tmp_path, 1)


def deploy(coordinator: Coordinator, *arguments: str | Path) -> dict[str, Any]:
    code, output = coordinator.run("deploy", *arguments, "--json")
    assert code == 0, output
    return json.loads(output)


def read(coordinator: Coordinator, told: dict[str, Any]) -> dict[str, Any]:
    """The deployment of the repository, as Prefect has it."""
    return coordinator.ask(f"deployments/{told['deployments'][0]['id']}")


def change(coordinator: Coordinator, path: str, body: dict[str, Any]) -> None:
    """Change something as Prefect's UI does."""
    send_api(coordinator.api, "PATCH", path, body)


def delete(coordinator: Coordinator, told: dict[str, Any]) -> None:
    """Delete the deployment of the repository as Prefect's UI does; the server is shared with other tests."""
    send_api(coordinator.api, "DELETE", f"deployments/{told['deployments'][0]['id']}")


def deploy_installed(installed: Installed, *arguments: str | Path) -> dict[str, Any]:
    done = installed.run("coordinator", "deploy", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def prepare(coordinator: Coordinator) -> str:
    """Make the deployments as `coordinator up` does; returns what it says."""
    return subprocess.run(
        [sys.executable, "-c", PREPARE], env=coordinator.environment(), capture_output=True, text=True, check=True
    ).stdout


def start_run(coordinator: Coordinator, deployment: str) -> str:
    """Press Quick run; returns the flow run's id."""
    return str(coordinator.ask(f"deployments/{deployment}/create_flow_run", {})["id"])


def test_a_worker_elsewhere_runs_what_an_installed_coordinator_deployed(elsewhere: Elsewhere) -> None:
    coordinator, made = elsewhere.coordinator, elsewhere.made
    deployment = read(coordinator, elsewhere.told)
    assert str(TOP) not in json.dumps(deployment)
    assert str(elsewhere.installed.place) not in json.dumps(deployment)

    states = [wait_for_end(coordinator, run) for run in [start_run(coordinator, deployment["id"]) for _ in range(2)]]

    assert sorted(state["type"] for state in states) == ["CANCELLED", "COMPLETED"], states
    (cancelled,) = [state for state in states if state["type"] == "CANCELLED"]
    assert cancelled["message"] == "Deployment concurrency limit reached."
    assert status_of(made, "flat-0") == "completed"
    assert not [line for line in elsewhere.deploy(made.repository)["warnings"] if "worker" in line]


def test_the_nightly_clean_up_audits_and_says_what_it_found(elsewhere: Elsewhere, made: Made) -> None:
    coordinator = elsewhere.coordinator
    told = elsewhere.deploy(made.repository, "--cleanup-cron", "30 4 * * *")
    (cleanup,) = [one for one in told["deployments"] if one["name"].startswith("cleanup-repository/")]
    assert [one["when"] for one in cleanup["schedules"]] == ["30 4 * * * (UTC)"]
    with RunLock(made.repository / ".git/coordinator", "first"):
        busy = wait_for_end(coordinator, start_run(coordinator, cleanup["id"]))
    clean = wait_for_end(coordinator, start_run(coordinator, cleanup["id"]))
    run_git(made.repository, "commit", "-q", "--allow-empty", "-m", FORGED)
    last = start_run(coordinator, cleanup["id"])
    wrong = wait_for_end(coordinator, last)
    assert (busy["type"], busy["name"], "run first (process" in busy["message"]) == ("CANCELLED", "Aborted", True), busy
    assert (clean["type"], "No violations" in clean["message"]) == ("COMPLETED", True), clean
    assert (wrong["type"], "flat-0" in wrong["message"]) == ("FAILED", True), wrong
    artifacts = {"artifacts": {"flow_run_id": {"any_": [last]}}}
    (report,) = coordinator.ask("artifacts/filter", artifacts)
    assert (report["key"], "The audit found:" in report["data"]) == ("coordinator-cleanup", True)
    delete(coordinator, told)
    send_api(coordinator.api, "DELETE", f"deployments/{cleanup['id']}")


def test_the_deployments_of_a_checkout_contain_no_path_of_it(coordinator: Coordinator) -> None:
    deploy_checkout(coordinator)
    for name in ("run-graph/run-graph", "cleanup-repository/nightly"):
        found = coordinator.ask(f"deployments/name/{name}")
        assert (found["pull_steps"], found["path"], str(TOP) in json.dumps(found)) == ([], None, False)
    assert [one["schedule"]["cron"] for one in found["schedules"]] == ["30 4 * * *"]
    send_api(coordinator.api, "DELETE", f"deployments/{found['id']}")


def test_a_schedule_is_seen_in_prefect_and_stays_paused_when_it_is_changed(
    coordinator: Coordinator, made: Made
) -> None:
    told = deploy(coordinator, made.repository, *NIGHTLY)
    (schedule,) = read(coordinator, told)["schedules"]
    assert schedule["schedule"] | {"day_or": True} == {"cron": "0 2 * * *", "timezone": "Europe/Berlin", "day_or": True}
    deployment = told["deployments"][0]["id"]
    due = {"deployments": {"id": {"any_": [deployment]}}}
    ask_until(lambda: coordinator.ask("flow_runs/filter", due), lambda runs: any(run["auto_scheduled"] for run in runs))

    theirs = {"schedule": {"cron": "0 12 * * *", "timezone": "UTC"}, "active": True}
    send_api(coordinator.api, "POST", f"deployments/{deployment}/schedules", [theirs])
    change(coordinator, f"deployments/{deployment}/schedules/{schedule['id']}", {"active": False})
    told = deploy(coordinator, made.repository, "--cron", "30 3 * * *")

    found = {one["slug"]: (one["schedule"]["cron"], one["active"]) for one in read(coordinator, told)["schedules"]}
    assert found == {"coordinator": ("30 3 * * *", False), None: ("0 12 * * *", True)}
    assert {one["when"]: one["is_active"] for one in told["deployments"][0]["schedules"]} == {
        "30 3 * * * (UTC)": False,
        "0 12 * * * (UTC)": True,
    }
    assert deploy(coordinator, made.repository)["deployments"][0]["action"] == "unchanged"
    delete(coordinator, told)


def test_what_a_person_changed_in_prefect_is_kept_and_named(coordinator: Coordinator, made: Made) -> None:
    told = deploy(coordinator, made.repository)
    before = read(coordinator, told)
    options = {**before["parameters"]["options"], "max_sessions": 3, "only": ["flat-0"]}
    changes = {
        "description": "Ask Ada.",
        "tags": ["team-a"],
        "parameters": {"options": options},
        "concurrency_limit": 2,
    }
    change(coordinator, f"deployments/{before['id']}", {**changes, "paused": True})

    code, output = coordinator.run("deploy", made.repository, "--max-sessions", "5")

    assert code == 0, output
    assert "kept as changed in Prefect: concurrency_limit, description, only, tags" in output
    assert f"{told['deployments'][0]['name']} is paused" in output
    after = read(coordinator, told)
    assert (after["description"], after["tags"], after["paused"]) == ("Ask Ada.", ["team-a"], True)
    assert after["global_concurrency_limit"]["limit"] == 2
    assert after["parameters"]["options"] == {**options, "max_sessions": 5}
    assert after["id"] == before["id"]
    delete(coordinator, told)


def test_a_removed_deployment_is_made_again_by_deploy_only(coordinator: Coordinator, made: Made) -> None:
    told = deploy(coordinator, made.repository)
    name = told["deployments"][0]["name"]
    delete(coordinator, told)
    asked = prepare(coordinator)
    assert f"  {name}" not in asked.splitlines()
    assert f"{name} was removed, so it is not made. To make it: " in asked
    assert f"deploy {made.repository}" in asked
    assert deploy(coordinator, made.repository)["deployments"][0]["action"] == "created"
    assert [one["action"] for one in deploy(coordinator, "--remove", made.repository)["deployments"]] == ["removed"]
    code, output = coordinator.run("deploy", "--remove", made.repository)
    assert (code, "There are no deployments of" in output) == (0, True)


def test_up_brings_clean_ups_up_to_date_and_keeps_what_a_person_changed(coordinator: Coordinator, made: Made) -> None:
    told = deploy(coordinator, made.repository, "--cleanup-cron", "30 4 * * *")
    cleanup = next(one for one in told["deployments"] if one["name"].startswith("cleanup-repository/"))
    place = f"deployments/{cleanup['id']}"
    before = coordinator.ask(place)
    change(coordinator, place, {"version": "0.0.1", "description": "Ask Ada."})
    change(coordinator, f"{place}/schedules/{before['schedules'][0]['id']}", {"active": False})

    prepare(coordinator)

    after = coordinator.ask(place)
    assert (after["version"], after["description"]) == (before["version"], "Ask Ada.")
    assert [(one["schedule"]["cron"], one["active"]) for one in after["schedules"]] == [("30 4 * * *", False)]
    send_api(coordinator.api, "DELETE", place)
    assert cleanup["name"] not in prepare(coordinator)  # It was asked for once; nobody has to hear of it at each start.
    delete(coordinator, told)


def test_the_form_for_all_offers_every_registered_repository_and_refuses_others(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    for place in (places := [tmp_path / "one", tmp_path / "two"]):
        place.mkdir()
    repositories = [make_flat(place, 1).repository for place in places]
    told = [deploy(coordinator, repository) for repository in repositories]
    names = [one["deployments"][0]["name"] for one in told]
    form = coordinator.ask("deployments/name/run-graph/run-graph")
    offered = form["parameter_openapi_schema"]["definitions"]["RunOptions"]["properties"]["repository"]["enum"]
    assert {name.partition("/")[2] for name in names} <= set(offered)
    create = f"{coordinator.api}/deployments/{form['id']}/create_flow_run"

    def start(repository: str) -> httpx.Response:
        options: dict[str, Any] = {"repository": repository, "only": [], "max_sessions": None, "dry_run": True}
        parameters = {"parameters": {"options": options}}
        return httpx.post(create, json=parameters, timeout=300)

    assert [start(other).status_code for other in ("/etc", "nobody's", str(repositories[0]))] == [409] * 3
    accepted = start(names[0].partition("/")[2])
    assert accepted.status_code == 201
    send_api(coordinator.api, "DELETE", f"flow_runs/{accepted.json()['id']}")
    for one in told:
        delete(coordinator, one)


def test_a_pool_that_cannot_be_used_is_said_with_the_fix(coordinator: Coordinator, made: Made) -> None:
    pool: dict[str, Any] = {"name": "containers", "type": "docker", "base_job_template": {}}
    coordinator.ask("work_pools/", pool)
    code, output = coordinator.run("deploy", made.repository, "--pool", "containers")
    assert (code, "is of type docker" in output, "--pool" in output) == (2, True, True), output
    code, output = coordinator.run("deploy", made.repository, "--pool", "container")
    assert (code, "prefect work-pool create container" in output) == (2, True), output


def test_without_a_server_all_mistakes_are_said_at_once(made: Made, tmp_path: Path) -> None:
    coordinator = Coordinator(tmp_path / "data", "")
    code, output = coordinator.run("deploy", made.repository, "--cron", "0 2 * *", "--timezone", "Mars")
    assert code == 2
    assert len(output.splitlines()) == 3, output
    assert "has 4 fields" in output
    assert '"Mars" is not a time zone' in output
    assert "start one with `coordinator up`, or set PREFECT_API_URL" in output
    code, output = coordinator.run("deploy", made.repository, extra={"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert (code, "no Prefect server at http://127.0.0.1:9/api" in output) == (2, True), output
