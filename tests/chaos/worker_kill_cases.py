"""Kills only the worker of a run's sessions, while the run lives; the worker is started again, as systemd does."""

import os
import time
from pathlib import Path

from chaos.forked_run import HANG_SECONDS, make_shim, run_in_child
from chaos.kill_cases import KILLED, UndisturbedRun, Verdict, conclude, find_faults, judge
from chaos.kill_points import Kill
from chaos.spoke_kill_cases import find_faults_elsewhere, make_spoke_case
from chaos.spoke_process import drive_run, drive_worker, exit_in_child, find_socket
from chaos.tracer import Target
from checker import Meant, check, snapshot_user_state
from checker_traces import read_lines

LOOK_SECONDS = 0.01
RESTARTS = 3


def run_both(place: Path, repository: Path, target: Target | None) -> tuple[int, list[int]]:
    """Do a run with its worker in another process, which is killed at `target`; return the exit codes of both.

    The worker is traced into `place`/trace. It has several codes if it was started again.
    """
    make_shim(place / "bin")
    child = os.fork()
    if child == 0:
        exit_in_child(run_in_child(place, repository, place / "log", place / "trace-run", None, "", drive_run))
    deadline = time.monotonic() + HANG_SECONDS
    while not find_socket(place).exists() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    codes: list[int] = []
    while len(codes) < RESTARTS and (not codes or codes[-1] == KILLED):
        log, trace = place / f"log-worker-{len(codes)}", place / ("trace" if not codes else f"trace-{len(codes)}")
        codes.append(run_in_child(place, repository, log, trace, None if codes else target, "", drive_worker))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), codes


def run_with_worker_calmly(place: Path) -> tuple[UndisturbedRun, list[str]]:
    """Do an undisturbed run; return its result and its faults, of which there should be none."""
    made = make_spoke_case(place)
    before = snapshot_user_state(made.repository)
    code, codes = run_both(place, made.repository, None)
    faults = find_faults(place, made, check(made.repository, before=before, meant=Meant(made.expected, made.verify)))
    faults += [] if codes == [0] else [f"the worker ended with {codes}"]
    return UndisturbedRun(code, read_lines(made.repository)), faults + find_faults_elsewhere(place)


def try_kill_worker(place: Path, kill: Kill, *, calm: UndisturbedRun) -> Verdict:
    """Kill the worker, start it again, and judge how the run ended."""
    made = make_spoke_case(place)
    before = snapshot_user_state(made.repository)
    code, codes = run_both(place, made.repository, kill.first)
    faults = judge(place, made, before, code, calm) + find_faults_elsewhere(place)
    faults += [] if codes[-1] == 0 else [f"the worker ended with {codes}"]
    return conclude(place, kill, codes, faults)
