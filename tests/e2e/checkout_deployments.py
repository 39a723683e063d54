"""The deployments of this checkout's prefect.yaml, made once for each server, and a worker for their runs."""

import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.conftest import Coordinator

from flows.deployments.definitions import POOL
from flows.spokes.session_labels import SESSION_POOL

PREFECT = Path(".venv/bin/prefect").absolute()
DEPLOYED: dict[str, Any] = {}
"""By server, what `deploy` has made of `run-graph`."""


def deploy(coordinator: Coordinator) -> str:
    """Make the work pools and the deployments of this checkout's prefect.yaml; returns the id of `run-graph`.

    Prefect's command line takes seconds for that, so it is done again only where a test has changed the deployment.
    """
    if coordinator.api not in DEPLOYED or find_deployment(coordinator) != DEPLOYED[coordinator.api]:
        make_deployments(coordinator)
        DEPLOYED[coordinator.api] = find_deployment(coordinator)
    return str(DEPLOYED[coordinator.api]["id"])


def find_deployment(coordinator: Coordinator) -> dict[str, Any]:
    """The deployment `run-graph`, without what using it changes."""
    found = coordinator.ask("deployments/name/run-graph/run-graph")
    return {name: value for name, value in found.items() if name not in ("updated", "status", "last_polled")}


def make_deployments(coordinator: Coordinator) -> None:
    for pool in (POOL, SESSION_POOL):
        make_pool(coordinator, pool)
    done = subprocess.run(
        [PREFECT, "--no-prompt", "deploy", "--all"],
        env=coordinator.environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def make_pool(coordinator: Coordinator, name: str) -> None:
    """Make a work pool unless there is one, as `prefect work-pool create` does in two seconds."""
    from prefect.workers.process import ProcessWorker

    if name not in [pool["name"] for pool in coordinator.ask("work_pools/filter", {})]:
        template = ProcessWorker.get_default_base_job_template()
        coordinator.ask("work_pools/", {"name": name, "type": "process", "base_job_template": template})


@contextmanager
def working(coordinator: Coordinator) -> Generator[str]:
    """A worker of Prefect's that runs the deployment `run-graph`, whose id is given."""
    deployment = deploy(coordinator)
    worker = subprocess.Popen(
        [PREFECT, "worker", "start", "--pool", POOL, "--type", "process"],
        env=coordinator.environment({"PREFECT_WORKER_QUERY_SECONDS": "2"}),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield deployment
    finally:
        worker.send_signal(signal.SIGINT)
        worker.wait(timeout=300)
