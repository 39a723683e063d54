"""Measures what people wait for: the start of a run and its end, and commands that only read."""

import compileall
import os
import resource
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import httpx

from bench.common import ROOT, SHARED_MACHINE, BrokenRunError, coordinate, lay_out, stop
from bench.figures import judge
from flows.data_directory import CACHE_VARIABLE, DATA_VARIABLE
from flows.prefect_server import LOOPBACK, end_child, find_free_port, start_child
from flows.server_sharing import read_running

COORDINATOR = Path(sys.executable).with_name("coordinator")
NODES = 50
NODE = "first"
ROUNDS = 3
"""Each is measured so often, in turns, and the least of the values counts: the machine does other things as well."""
WAIT_SECONDS = 300.0
RUN_TARGET = 1.2
AGAIN_TARGET = 0.8
"""Of a run whose server is there already; on a quiet machine that is at most 4 seconds."""
LINGER_SECONDS = 600
LINGER_VARIABLE = "COORDINATOR_SERVER_LINGER_SECONDS"
FRESH_TARGET = 2.0
EXIT_TARGET = 0.7
READING_TARGET = 0.5
DOCTOR_TARGET = 1.5
COMPLETION_TARGET = 0.25
COMPLETION = {"_COORDINATOR_COMPLETE": "complete_bash", "COMP_WORDS": "coordinator sta", "COMP_CWORD": "1"}
READING = ("plan", "validate", "status", "graph")


def run() -> str:
    """Start Prefect's server, coordinator's and a run, in new and in used data directories; takes minutes."""
    for package in ("coordinator_start", "flows", "tasks_lib"):
        compileall.compile_dir(ROOT / package, quiet=2)  # As in an installation.
    tasks = {f"node-{number}": () for number in range(NODES)}
    bare, new, used = list[float](), list[float](), list[float]()
    starts, ends, again = list[float](), list[float](), list[float]()
    with lay_out(tasks, 10) as field:
        place = field.home
        os.environ[CACHE_VARIABLE], os.environ[DATA_VARIABLE] = str(place / "cache"), str(place / "data")
        first = time_server(place / "data" / "prefect")
        time_prefect(place / "bare")
        for number in range(ROUNDS):
            bare.append(time_prefect(place / "bare"))
            new.append(time_server(place / f"new-{number}"))
            used.append(time_server(place / "data" / "prefect"))
            start, end = time_run(place / "data")
            starts.append(start)
            ends.append(end)
        with lingering(place / "data"):
            time_run(place / "data")
            again += [time_run(place / "data")[0] for _ in range(ROUNDS)]
        reading = {one: time_command(one, str(field.repository)) for one in (*READING, "doctor")}
        completion = time_command(**COMPLETION)
    return "\n".join([
        *describe_servers(first, min(bare), min(new), min(used)),
        *describe_run(min(bare), min(starts), min(again), min(ends)),
        *describe_reading(reading),
        f"completion: {completion:.2f} s, {judge('start: completion, CPU s', completion, COMPLETION_TARGET)}",
        SHARED_MACHINE,
    ])  # fmt: skip


def describe_servers(first: float, bare: float, new: float, used: float) -> list[str]:
    more = judge("start: a new data directory, s more", new - used, FRESH_TARGET)
    return [
        "Until a server answers, and from a command to the first agent:",
        f"`prefect server start` on a used database: {bare:.1f} s",
        f"coordinator's server on a used database: {used:.1f} s, {used / bare:.2f} times as long",
        f"coordinator's first server, which sets up its database: {first:.1f} s, {first / bare:.2f} times as long",
        f"coordinator's server in a later new data directory: {new:.1f} s, {new - used:+.1f} s; seconds more: {more}",
    ]


def describe_run(bare: float, start: float, again: float, end: float) -> list[str]:
    ratio = start / bare
    first = judge("start: to the first agent over `prefect server start`", ratio, RUN_TARGET)
    second = judge("start: the same with a server that stayed", again / bare, AGAIN_TARGET)
    last = judge("start: last node to exit, s", end, EXIT_TARGET)
    times = f"{ratio:.2f} times as long as `prefect server start`, {first}"
    return [
        f"`coordinator run` to its first agent, used data directory: {start:.1f} s, {times}",
        f"The same with a server that stayed: {again:.1f} s, {again / bare:.2f} times as long, {second}",
        f"From the end of the last node to the exit: {end:.1f} s, {last}",
    ]


def describe_reading(seconds: Mapping[str, float]) -> list[str]:
    python = seconds["plan"]
    lines = [f"CPU seconds of commands on {NODES} task files, and the ratio to `plan`:"]
    for command, value in seconds.items():
        target = DOCTOR_TARGET if command == "doctor" else READING_TARGET
        verdict = judge(f"start: `{command}`, CPU s", value, target)
        lines.append(f"`{command}`: {value:.2f} s, {value / python:.2f}, {verdict}")
    return lines


def time_server(home: Path) -> float:
    """Seconds until coordinator's server answers, in `home`."""
    home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    child = start_child(home, find_free_port())
    seconds = time.monotonic() - began
    end_child(child)
    return seconds


def time_prefect(home: Path) -> float:
    """Seconds until `prefect server start` answers, in `home`."""
    home.mkdir(exist_ok=True)
    port = find_free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    settings = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)],
        cwd=home, env={**kept, **settings}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until_healthy(port)
        return time.monotonic() - began
    finally:
        stop(process)


def wait_until_healthy(port: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if client.get(f"http://{LOOPBACK}:{port}/api/health").is_success:
                    return
            time.sleep(0.05)
    raise BrokenRunError("`prefect server start` did not answer in time")


@contextmanager
def lingering(data: Path) -> Generator[None]:
    """Let the server in `data` stay after runs in the block, and end it after it."""
    os.environ[LINGER_VARIABLE] = str(LINGER_SECONDS)
    try:
        yield
    finally:
        del os.environ[LINGER_VARIABLE]
        if server := read_running(data / "prefect"):
            end_child(server)


def time_run(data: Path) -> tuple[float, float]:
    """Seconds from the command to the first agent, and from the end of the only node to the exit."""
    with lay_out({NODE: ()}, 10) as field:
        (field.home / "data").symlink_to(data)
        began = time.time()
        view = coordinate(field, 1)
        ended = time.time()
        return field.began(NODE) - began, ended - datetime.fromisoformat(view.nodes[NODE].since).timestamp()


def time_command(*arguments: str, **variables: str) -> float:
    """The least CPU seconds of a command with these arguments and variables of the environment."""
    found: list[float] = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [COORDINATOR, *arguments], cwd=ROOT, env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)
