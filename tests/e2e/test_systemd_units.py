"""The systemd units in `deployments/systemd`: systemd accepts them, and what they start runs and drains."""

import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from e2e.conftest import Coordinator, read_until
from e2e.test_local_stack import END_SECONDS, READY

from flows.local_stack.worker_process import DRAIN_SECONDS
from tasks_lib.git.runner import Git

UNITS = sorted((Path(__file__).resolve().parents[2] / "deployments" / "systemd").glob("*.service"))
SPOKE_READY = "is ready for sessions"
INSTALLED = "/opt/coordinator/bin/coordinator"
PROGRAM = Path(sys.executable).parent / "coordinator"

pytestmark = pytest.mark.xdist_group("up")
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


def read_unit(unit: Path) -> dict[str, str]:
    """The keys of the section Service; of a repeated key the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",))
    parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    parser.read(unit, encoding="utf-8")
    return dict(parser["Service"])


@each_unit
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd-analyze is not installed")
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text(encoding="utf-8").replace(INSTALLED, str(PROGRAM)), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@each_unit
def test_unit_stops_coordinator_alone_and_waits_until_it_has_drained(unit: Path) -> None:
    service = read_unit(unit)
    assert (service["KillMode"], service["KillSignal"]) == ("mixed", "SIGTERM")
    assert int(service["TimeoutStopSec"]) > DRAIN_SECONDS


@each_unit
def test_what_the_unit_starts_runs_and_ends_at_its_signal(unit: Path, coordinator: Coordinator, tmp_path: Path) -> None:
    service = read_unit(unit)
    command = re.sub(f"^{INSTALLED}", str(PROGRAM), service["ExecStart"]).split()
    # The port of the unit may be taken on this machine.
    command += ["--port", "0"] if unit.stem == "coordinator-up" else []
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COORDINATOR_DATA_DIR": str(tmp_path / "data")}
    environment["COORDINATOR_CACHE_DIR"] = os.environ["COORDINATOR_CACHE_DIR"]
    if unit.stem != "coordinator-up":
        environment["PREFECT_API_URL"] = coordinator.api
    if unit.stem == "coordinator-spoke":
        register_repository(tmp_path / "shop.git", environment)
    process = subprocess.Popen(
        command, cwd="/", env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        said = read_until(process, SPOKE_READY if unit.stem == "coordinator-spoke" else READY)
        process.send_signal(signal.Signals[service["KillSignal"]])
        ended = process.communicate(timeout=END_SECONDS)[0]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said + ended


def register_repository(place: Path, environment: dict[str, str]) -> None:
    """Do what docs/operations.md says before the worker of a spoke is started, with a new repository at `place`."""
    place.mkdir()
    Git(place).run("init", "--quiet", "--bare", "--initial-branch", "main")
    subprocess.run(
        [PROGRAM, "spoke", "add", "--target", "main", place], env=environment, check=True, stdout=subprocess.DEVNULL
    )
