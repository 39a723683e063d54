"""Measures `coordinator up`: to the first run that Prefect accepts, and from a run's start to its first agent."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx

from bench.common import ROOT, SHARED_MACHINE, BrokenRunError, Field, lay_out, stop
from bench.figures import judge
from flows.prefect_api import ask
from flows.prefect_server import LOOPBACK, end_child, find_free_port, start_child

START_TARGET = 1.5
AGENT_TARGET = 6.0
WAIT_SECONDS = 300.0
NODE = "first"
READY = "Press Ctrl-C"


def run() -> str:
    """Start a bare server and the stack, each first with an empty and then with its own database; takes minutes."""
    lines = ["`coordinator up` with one repository; agents that only commit."]
    with lay_out({NODE: ()}, 10) as field:
        environment = make_environment(field)
        os.environ["COORDINATOR_DATA_DIR"] = environment["COORDINATOR_DATA_DIR"]
        subprocess.run(
            [sys.executable, "-m", "flows.cli", "init", str(field.repository)], env=environment, cwd=ROOT, check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        agent = 0.0
        for database, has_run in (("empty", False), ("used", True)):
            bare = measure_server(field)
            accepted, agent = measure_stack(field, environment, has_run=has_run)
            ratio = accepted / bare
            verdict = judge(f"up: over a bare server, {database} database", ratio, START_TARGET)
            what = f"To the first run accepted, over a bare server's start, {database} database"
            lines.append(f"{what}: {ratio:.2f} ({accepted:.1f} s over {bare:.1f} s), {verdict}")
    verdict = judge("up: run to first agent, s", agent, AGENT_TARGET)
    lines.append(f"From a run's start to its first agent, with the worker up: {agent:.1f} s, {verdict}")
    return "\n".join([*lines, SHARED_MACHINE])


def make_environment(field: Field) -> dict[str, str]:
    """The environment of the commands, with a data directory of the benchmark's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "GIT_"))}
    return {**kept, "COORDINATOR_DATA_DIR": str(field.home / "data")}


def measure_server(field: Field) -> float:
    """Seconds until a server without anything beside it answers."""
    home = field.home / "bare"
    home.mkdir(exist_ok=True)
    began = time.monotonic()
    child = start_child(home, find_free_port())
    seconds = time.monotonic() - began
    end_child(child)
    return seconds


def measure_stack(field: Field, environment: dict[str, str], *, has_run: bool) -> tuple[float, float]:
    """Seconds until a run is accepted and, with `has_run`, from its start with the worker up until its agent runs."""
    port = find_free_port()
    began, began_at = time.monotonic(), datetime.now(UTC)
    with running(field, environment, port), ask(f"http://{LOOPBACK}:{port}/api", 60.0) as client:

        def find_deployment() -> str:
            found = client.get(f"deployments/name/run-graph/{field.repository.name}")
            return str(found.json()["id"]) if found.is_success else ""

        deployment = wait_for(find_deployment)
        accepted = time.monotonic() - began
        if not has_run:
            return accepted, 0.0
        wait_for(lambda: READY in (field.home / "up.log").read_text(encoding="utf-8"))
        wait_for(lambda: find_beats(client, began_at))
        started = time.time()
        # SQLite may be locked for a moment, and Prefect's own client would ask again too.
        wait_for(lambda: client.post(f"deployments/{deployment}/create_flow_run", json={}).raise_for_status())
        wait_for(field.count_began)
        return accepted, field.began(NODE) - started


def find_beats(client: httpx.Client, since: datetime) -> list[str]:
    """The heartbeats of workers since a time; the record of an earlier worker stays."""
    found = client.post("work_pools/coordinator/workers/filter", json={}).json()
    beats = [str(one["last_heartbeat_time"]) for one in found]
    return [beat for beat in beats if datetime.fromisoformat(beat) > since]


@contextmanager
def running(field: Field, environment: dict[str, str], port: int) -> Generator[None]:
    """Run `coordinator up` while the block runs."""
    with (field.home / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "up", "--port", str(port)], cwd=ROOT, env=environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield
        finally:
            stop(process)


def wait_for(look: Callable[[], object]) -> str:
    """Call `look` until it returns something; errors are those of a server that is still starting."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            if found := look():
                return str(found)
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise BrokenRunError("`coordinator up` did not get there in time")
