"""Runs a graph as the flow does, but without Prefect, in a forked process.

The fork saves the second that imports take. A driver can have a deliberate defect, to show that it is detected.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

from chaos.tracer import PROGRAMS, SCRIPTS, SHIM, SHIM_VARIABLE, Target, install
from checker_traces import git, text
from run_harness import PlainLauncher

from tasks_lib.cleanup.dead_run import find_unattributed
from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.engine.run_lifecycle import open_run
from tasks_lib.engine.scheduler import Scheduler
from tasks_lib.graph.run_plan import Plan
from tasks_lib.project.loading import load_project

AUDITED = 1_000
HANG_SECONDS = 60
"""Not an assertion: a run that hangs is ended and reported as a fault."""
Drive = Callable[[Path, Path], Coroutine[Any, Any, int]]
"""Runs the graph of a repository with a data directory, and returns the exit code."""
Defect = Literal["", "careless", "stray", "twice"]
"""`careless` deletes worktrees and branches at the start, `stray` leaves a process in a worktree, `twice` lands the
last merge a second time."""


def run_in_child(
    place: Path,
    repository: Path,
    log: Path,
    trace: Path,
    target: Target | None,
    defect: Defect,
    drive: Drive | None = None,
) -> int:
    """Run the graph of `repository` in a child; return its exit code, negative for the signal that ended it.

    `drive` does the run, by default `work`. `place` contains everything of the case: a directory for temporary files, and the shim's programs.
    """
    make_shim(place / "bin")
    child = os.fork()
    if child == 0:
        _become_driver(place, repository, log, trace, target, defect, drive or work)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def audit_in_child(place: Path, repository: Path) -> list[str]:
    """What the coordinator's own audit finds in `repository`, as `coordinator doctor --audit` prints it."""
    found = place / "audit"
    child = os.fork()
    if child == 0:
        try:
            project = load_project(repository, {})
            shared = (f"{path}: was left by a run that was killed" for path in find_unattributed(place / "data"))
            said = [*audit(project, AUDITED).violations, *shared]
            found.write_text("".join(f"audit: {one}\n" for one in said), encoding="utf-8")
        except BaseException:
            found.write_text(f"audit: {traceback.format_exc()}", encoding="utf-8")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return found.read_text(encoding="utf-8").splitlines()


def make_shim(directory: Path) -> None:
    """Install the shim in `directory`, under the name of each program that the coordinator starts.

    That directory comes first on the coordinator's PATH, where it looks up programs. Each name is a link to the real
    program until the tracer gives the first order, and then a shell script: it starts the shim if it has an order, and
    otherwise the real program.
    """
    if not directory.exists():
        _write_scripts(directory / SCRIPTS)
    for name in PROGRAMS:
        # A killed run may have left the script, which costs the next run a shell for each program.
        if not (directory / name).is_symlink():
            link = directory / f"{name}.link"
            link.symlink_to(str(shutil.which(name)))
            link.replace(directory / name)


def _write_scripts(scripts: Path) -> None:
    ordered = scripts / "ordered"
    ordered.mkdir(parents=True)
    for name in PROGRAMS:
        texts = {
            ordered / name: f"#!{sys.executable} -SEs\n{SHIM.read_text(encoding='utf-8')}",
            scripts / name: (
                f'#!/bin/sh\n[ -z "${SHIM_VARIABLE}" ] && exec {shutil.which(name)} "$@"\nexec {ordered / name} "$@"\n'
            ),
        }
        for path, script in texts.items():
            path.write_text(script, encoding="utf-8")
            path.chmod(0o700)
    (ordered / "syscalls.py").symlink_to(SHIM.with_name("syscalls.py"))


def _become_driver(
    place: Path, repository: Path, log: Path, trace: Path, target: Target | None, defect: Defect, drive: Drive
) -> None:
    code = 70
    try:
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        temporary = place / "tmp"
        temporary.mkdir(exist_ok=True)
        programs = str(place / "bin")
        os.environ |= {"TMPDIR": str(temporary), "CHAOS_BIN": programs, "PATH": f"{programs}:{os.environ['PATH']}"}
        os.environ |= {"GIT_TRACE2_EVENT": str(trace.with_suffix(".git"))} if target is None else {}
        tempfile.tempdir = None
        signal.alarm(2 * HANG_SECONDS)  # For when even the event loop hangs.
        install(trace, target, {str(place): "<place>", sys.executable: "<python>"})
        if defect:
            _DEFECTS[defect](repository, is_end=False)
        code = asyncio.run(asyncio.wait_for(drive(repository, place / "data"), HANG_SECONDS))
        if defect:
            _DEFECTS[defect](repository, is_end=True)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


async def work(repository: Path, data: Path) -> int:
    """Run the graph of `repository`; return the exit code that the command line would have."""
    project = await asyncio.to_thread(load_project, repository)
    async with open_run(project, f"run-{os.getpid()}", project.settings.max_sessions, data=data) as opened:
        opened.run.board.listen(lambda node, line: print(f"{node or '-'}: {line}", flush=True))
        scheduler = Scheduler(opened, Plan(opened.run.nodes.graph), PlainLauncher())
        await scheduler.work()
    code = scheduler.judge()
    opened.run.board.close(int(code))
    return int(code)


# Drivers with a defect.


def _be_careless(repository: Path, *, is_end: bool) -> None:
    if is_end:
        return
    shutil.rmtree(repository / ".worktrees", ignore_errors=True)
    git(repository, "worktree", "prune")
    for branch in text(repository, "branch", "--format=%(refname:short)", "--list", "feat/*").splitlines():
        git(repository, "branch", "-q", "-D", branch)


def _leave_a_process(repository: Path, *, is_end: bool) -> None:
    if is_end:
        here = {**os.environ, "COORDINATOR_WORKTREE": f"{repository.resolve()}/.worktrees/feat/x"}
        subprocess.Popen(["sleep", "60"], env=here, start_new_session=True)


def _land_twice(repository: Path, *, is_end: bool) -> None:
    if not is_end:
        return
    last = text(repository, "rev-list", "--merges", "-n1", "main")
    message = git(repository, "log", "-n1", "--format=%B", last)
    tip = text(repository, "rev-parse", "main")
    parents = ("-p", tip, "-p", f"{last}^2")
    again = git(repository, "commit-tree", f"{tip}^{{tree}}", *parents, stdin=message).decode().strip()
    git(repository, "update-ref", "refs/heads/main", again)


_DEFECTS: dict[Defect, Callable[..., None]] = {
    "careless": _be_careless,
    "stray": _leave_a_process,
    "twice": _land_twice,
}
