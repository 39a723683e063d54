"""Kills `coordinator run` itself: at its calls to Prefect, and at other side effects of the command line and the flow."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from chaos.forked_run import make_shim
from chaos.kill_cases import KILLED, UndisturbedRun, Verdict, find_faults, judge, make_case
from chaos.kill_points import Kill
from chaos.prefect_proxy import LOOPBACK, open_proxy
from chaos.traced_start import ORDER
from chaos.tracer import Target
from checker import Meant, check, snapshot_user_state
from checker_traces import read_lines
from generated_graphs import Made
from user_isolation import without_prefect

HANG_SECONDS = 600
START = Path(__file__).with_name("traced_start.py")


def write_environment(place: Path, api: str) -> dict[str, str]:
    """The environment of a coordinator with all its files in `place`; without `api`, it starts its own server too."""
    (place / "data").mkdir(exist_ok=True)
    (place / "tmp").mkdir(exist_ok=True)
    own = {
        "COORDINATOR_DATA_DIR": str(place / "data"),
        "PREFECT_HOME": str(place / "data"),
        "TMPDIR": str(place / "tmp"),
    }
    return {**without_prefect(os.environ), **own, "PYTHONDONTWRITEBYTECODE": "1"} | (
        {"PREFECT_API_URL": api} if api else {}
    )


def run_whole(
    place: Path,
    made: Made,
    api: str,
    trace: Path | None = None,
    target: Target | None = None,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Do a whole `coordinator run` with the variables `extra`, traced if `trace` is given; return its exit code."""
    environment = {**write_environment(place, api), **extra}
    command = [sys.executable, "-m", "flows.cli"]
    if trace:
        make_shim(place / "bin")
        places = {str(place): "<place>", sys.executable: "<python>"}
        order = {"trace": str(trace), "bin": str(place / "bin"), "places": places, "target": target and asdict(target)}
        environment[ORDER] = json.dumps(order)
        command = [sys.executable, str(START)]
    with (place / "log").open("ab") as log:
        words = [*command, "run", str(made.repository)]
        return subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, timeout=HANG_SECONDS
        ).returncode


def audit_whole(place: Path, made: Made, api: str) -> list[str]:
    """What `coordinator doctor --audit` finds, in Prefect too: runs still alive there, or with another result."""
    words = [sys.executable, "-m", "flows.cli", "doctor", str(made.repository), "--audit", "--json"]
    environment = write_environment(place, api)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=HANG_SECONDS)
    try:
        return [f"audit: {one}" for one in json.loads(done.stdout)["violations"]]
    except (ValueError, KeyError):
        return [f"audit: {done.stdout}{done.stderr}"]


async def run_through_proxy(place: Path, made: Made, port: int, target: Target | None) -> tuple[int, list[str]]:
    """Do a `coordinator run` with a proxy before the server at `port`; return its exit code and its calls."""
    async with open_proxy(port, target) as proxy:
        with (place / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "flows.cli", "run", str(made.repository),
                env=write_environment(place, proxy.url), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        proxy.victim = process.pid
        code = await asyncio.wait_for(process.wait(), HANG_SECONDS)
    return code, proxy.calls


def run_whole_calmly(place: Path, port: int) -> tuple[UndisturbedRun, list[str], list[str]]:
    """Do an undisturbed run through the proxy; return its result, the calls that it makes, and its faults."""
    made = make_case(place)
    before = snapshot_user_state(made.repository)
    code, calls = asyncio.run(run_through_proxy(place, made, port, None))
    faults = find_faults(place, made, check(made.repository, before=before, meant=Meant(made.expected, made.verify)))
    return UndisturbedRun(code, read_lines(made.repository)), calls, faults


def try_call(place: Path, kill: Kill, *, calm: UndisturbedRun, port: int) -> Verdict:
    """Kill at a call to the server at `port`, rerun, and judge."""
    made = make_case(place)
    before = snapshot_user_state(made.repository)
    first, _ = asyncio.run(run_through_proxy(place, made, port, kill.first))
    api = f"http://{LOOPBACK}:{port}/api"
    code = run_whole(place, made, api)
    faults = judge(place, made, before, code, calm) + audit_whole(place, made, api)
    return conclude(place, kill, first, faults)


def try_whole(place: Path, kill: Kill, *, calm: UndisturbedRun, api: str) -> Verdict:
    """Kill at a side effect of the command line or the flow, rerun, and judge; without `api`, the run starts a server."""
    made = make_case(place)
    before = snapshot_user_state(made.repository)
    first = run_whole(place, made, api, place / "trace", kill.first)
    code = run_whole(place, made, api)
    return conclude(place, kill, first, judge(place, made, before, code, calm))


def trace_whole(place: Path, api: str) -> Path:
    """Do an undisturbed `coordinator run`; return the path of its trace."""
    run_whole(place, make_case(place), api, place / "trace")
    return place / "trace"


def conclude(place: Path, kill: Kill, first: int, faults: list[str]) -> Verdict:
    if not faults:
        shutil.rmtree(place, ignore_errors=True)
    return Verdict(kill, first == KILLED, 1, tuple(faults))
