"""Kills `coordinator run` while it starts, shares, keeps or ends Prefect's server, and copies or makes its database."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
from chaos.cli_kill_cases import HANG_SECONDS, conclude, run_whole, write_environment
from chaos.kill_cases import UndisturbedRun, Verdict, judge, make_case
from chaos.kill_points import Kill
from checker import snapshot_user_state

from flows.data_directory import CACHE_VARIABLE
from flows.prefect_server import SERVER
from flows.server_users import USERS
from tasks_lib.process.files import find_unfinished

LINGER_SECONDS = 600


@dataclass(frozen=True, slots=True)
class ServerStart:
    """How a run's server starts: with a copy of the database kept in `cache`, or making the first one if it is None.

    With `is_kept`, the server stays after the run.
    """

    cache: Path | None = None
    is_kept: bool = False

    def make_variables(self, place: Path) -> dict[str, str]:
        """The variables of a run with all its files in `place`."""
        own = place / "cache"
        if self.cache and not own.exists():
            shutil.copytree(self.cache, own)
        linger = {"COORDINATOR_SERVER_LINGER_SECONDS": str(LINGER_SECONDS)} if self.is_kept else {}
        return {CACHE_VARIABLE: str(own), **linger}


def trace_start(place: Path, start: ServerStart) -> Path:
    """Do an undisturbed `coordinator run` with a server of its own; return the path of its trace."""
    made = make_case(place)
    run_whole(place, made, "", place / "trace", extra=start.make_variables(place))
    end_all(place)
    return place / "trace"


def try_start(place: Path, kill: Kill, *, calm: UndisturbedRun, start: ServerStart) -> Verdict:
    """Kill at a side effect, rerun, end what stays as a person does, and judge."""
    made = make_case(place)
    before = snapshot_user_state(made.repository)
    variables = start.make_variables(place)
    first = run_whole(place, made, "", place / "trace", kill.first, extra=variables)
    faults = find_many(place, 1, "after the kill")
    code = run_whole(place, made, "", extra=variables)
    faults += find_many(place, 1 if start.is_kept else 0, "after the rerun")
    if start.is_kept:
        faults += end_all(place)
    faults += find_left(place)
    return conclude(place, kill, first, faults + judge(place, made, before, code, calm))


def end_all(place: Path) -> list[str]:
    """Run `coordinator down`; returns what is wrong."""
    words = [sys.executable, "-m", "flows.cli", "down"]
    environment = write_environment(place, "")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=HANG_SECONDS)
    faults = [] if done.returncode == 0 else [f"down exited with {done.returncode}: {done.stdout}{done.stderr}"]
    return faults + find_many(place, 0, "after `coordinator down`")


def find_many(place: Path, most: int, when: str) -> list[str]:
    """A fault if more than `most` servers use the database of the coordinator in `place`."""
    home = str(place / "data" / "prefect")
    found: list[int] = []
    for process in psutil.process_iter():
        try:
            if SERVER in process.cmdline() and process.environ().get("PREFECT_HOME") == home:
                found.append(process.pid)
        except psutil.Error:
            continue
    return [f"{len(found)} servers use one database {when}, at most {most} should"] if len(found) > most else []


def find_left(place: Path) -> list[str]:
    """What is left in the data directory although nothing runs. In the cache, the next who keeps a copy removes it."""
    home = place / "data" / "prefect"
    left = [*find_unfinished(home), *sorted((home / USERS).glob("*"))]
    left += [home / name for name in ("server.json", "kept.json") if (home / name).exists()]
    return [f"left behind: {os.path.relpath(path, place)}" for path in left]
