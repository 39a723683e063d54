"""Kills a run, reruns it, and judges from outside whether it ended like an undisturbed run."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chaos.forked_run import Defect, audit_in_child, run_in_child
from chaos.kill_points import Kill
from chaos.tracer import Target
from checker import Before, Meant, check, snapshot_user_state
from checker_traces import read_lines, text
from generated_graphs import AGENT, RED, RESEARCH, RIVALS, Made, make_repository, run_git
from scripted_agent import set_status

ASKING = {"safe_exit": {"resolver": "always"}}
"""Blockers go through a resolver first, which finds that a person has to decide."""
NODES, SEED = 14, 3
DONE = (*RIVALS, RESEARCH, "graph")
KILLED = -9
TRIES = 4


@dataclass(frozen=True, slots=True)
class UndisturbedRun:
    """The result of an undisturbed run: its exit code, and every file of the target."""

    code: int
    files: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one kill. If not `struck`, the side effect did not occur in this run, which ended undisturbed."""

    kill: Kill
    struck: bool
    reruns: int
    faults: tuple[str, ...]


def make_case(place: Path) -> Made:
    """Make the small graph in `place`: two conflicting nodes, one red at first, a review and its dependent, blocked ones.

    The agent of the red node also works in a nested worktree, and leaves a program running.
    """
    # Started through `env`, so that the shim can stand in for it.
    command = ["env", sys.executable, "-S", "-E", "-s", "-B", str(AGENT), str(place / "plan.json")]
    agent = {"backend": "command", "command": command}
    made = make_repository(place, nodes=NODES, seed=SEED, seconds=(0, 0), settings={"agent": agent, **ASKING})
    made.behave(RED, daemon=True, nested=True)
    # Completed beforehand to save time: other nodes do the same as these.
    for task_id in DONE:
        set_status(str(made.repository / made.paths[task_id]), b"completed")
    run_git(made.repository, "commit", "-q", "-a", "-m", "Have some of it")
    return made


def run_undisturbed(place: Path, target: Target | None = None) -> tuple[UndisturbedRun, list[str]]:
    """Do an undisturbed run, traced into `place`/trace; return its result and its faults, of which there should be none."""
    made = make_case(place)
    before = snapshot_user_state(made.repository)
    code = run_in_child(place, made.repository, place / "log", place / "trace", target, "")
    faults = find_faults(place, made, check(made.repository, before=before, meant=Meant(made.expected, made.verify)))
    return UndisturbedRun(code, read_lines(made.repository)), faults


def try_kill(place: Path, kill: Kill, *, calm: UndisturbedRun, defect: Defect = "") -> Verdict:
    """Kill a run, rerun until a run completes, and judge; `place` is removed if there are no faults."""
    made = make_case(place)
    before = snapshot_user_state(made.repository)
    targets = [kill.first, *([kill.then] if kill.then else []), None]
    codes: list[int] = []
    for number, target in enumerate(targets):
        log = place / f"log-{number}"
        codes.append(run_in_child(place, made.repository, log, place / f"trace-{number}", target, defect))
    faults = judge(place, made, before, codes[-1], calm)
    return conclude(place, kill, codes, [f"{defect}: {fault}" if defect else fault for fault in faults])


def conclude(place: Path, kill: Kill, codes: Sequence[int], faults: Sequence[str]) -> Verdict:
    """Remove `place` if there are no faults; `codes` are the exit codes of the killed run and those after it."""
    if not faults:
        shutil.rmtree(place, ignore_errors=True)
    return Verdict(kill, codes[0] == KILLED, len(codes) - 1, tuple(faults))


def retry_kill(attempt: Callable[..., Verdict], place: Path, kill: Kill, **given: Any) -> Verdict:
    """`attempt` the kill; if its side effect occurs less often in a run, retry earlier occurrences, down to the first."""
    verdict, target = attempt(place, kill, **given), kill.first
    for number in range(TRIES):
        if verdict.struck or verdict.faults:
            break
        target = replace(target, occurrence=max(1, target.occurrence // 2), cut=(target.cut + 1) // 2)
        tried = attempt(place.with_name(f"{place.name}-{number}"), replace(kill, first=target), **given)
        verdict = replace(tried, kill=kill)
    return verdict


def judge(
    place: Path, made: Made, before: Before, code: int, calm: UndisturbedRun, setup: Sequence[str] = ()
) -> list[str]:
    """Return the differences from an undisturbed run, and the broken promises."""
    faults = [] if code == calm.code else [f"the exit code is {code} and not {calm.code}"]
    meant = Meant(made.expected, made.verify, setup, sample=3)
    faults += find_faults(place, made, check(made.repository, before=before, meant=meant))
    now = read_lines(made.repository)
    changed = sorted(path for path in now.keys() | calm.files.keys() if now.get(path) != calm.files.get(path))
    return faults + [f"{path} is not as in an undisturbed run" for path in changed]


def find_faults(place: Path, made: Made, found: list[str]) -> list[str]:
    """Add to what the checker `found` what it cannot see: agents alive twice, lost commits, temporary files, processes."""
    faults = list(found)
    faults += [
        f"two agents of {line['id']} were alive at once" for line in made.read_journal() if line["event"] == "twice"
    ]
    faults += find_lost_commits(made)
    faults += audit_in_child(place, made.repository)
    temporary = place / "tmp"
    left = sorted(temporary.iterdir()) if temporary.exists() else []
    # Python itself writes a file of a few bytes to test whether the directory is writable.
    faults += [f"{path} is left" for path in left if not path.is_file() or path.stat().st_size > len(b"blat")]
    return faults + end_processes(place)


def find_lost_commits(made: Made) -> list[str]:
    """Commits of agents that are no longer reachable from any ref.

    The coordinator's own commits are recreated, so they do not count. Nor do those that git was killed while making:
    no turn ended with them, and another commit has the same files.
    """
    listed = text(made.repository, "fsck", "--unreachable", "--no-reflogs", "--no-progress", "--connectivity-only")
    ids = [line.split()[2] for line in listed.splitlines() if line.startswith("unreachable commit ")]
    told = {line.get("commit") for line in made.read_journal()}
    kept = set(text(made.repository, "log", "--all", "--format=%T").splitlines())
    rows = [text(made.repository, "log", "-n1", "--format=%H %T %s", one).split(" ", 2) for one in ids]
    lost = ((commit, subject) for commit, tree, subject in rows if commit in told or tree not in kept)
    return [f"the commit {commit[:10]} {subject} is lost" for commit, subject in lost if subject.startswith("feat(")]


def end_processes(place: Path) -> list[str]:
    """Kill the processes that still run in `place` or were started for it, and return a fault for each."""
    needle, faults = os.fsencode(place), list[str]()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            has_it = needle in (entry / "environ").read_bytes() or needle in os.fsencode((entry / "cwd").readlink())
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
        if has_it and command:
            faults.append(f"process {entry.name} is left: {command}")
            with suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
    return faults
