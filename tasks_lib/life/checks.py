"""Runs the repository's own `setup` and `verify` lines in a worktree, and says green or red."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import ShellError
from tasks_lib.git.worktrees import Worktree
from tasks_lib.life.copying import copy_listed
from tasks_lib.life.run import Run
from tasks_lib.process.shell import LinesEnded, run_lines


@dataclass(frozen=True, slots=True)
class Green:
    """Every line exited with 0."""


@dataclass(frozen=True, slots=True)
class Red:
    """`line` did not pass; `how` says in words how it ended, `tail` is the end of its output, `log` all of it."""

    line: str
    how: str
    tail: str
    log: str


async def run_setup(run: Run, worktree: Worktree, log: Path) -> None:
    """Run the `setup` lines in `worktree`; raises ShellError naming the line that failed."""
    if not run.settings.setup:
        return
    ended = await _run(run, run.settings.setup, "setup", worktree, log, run.settings.watch.setup_seconds)
    if not ended.is_green:
        raise ShellError(ended.failed_line, ended.status, ended.tail, str(log))


async def run_verify(run: Run, worktree: Worktree, log: Path) -> Green | Red:
    """Make `worktree` as the agent's was, and run the `verify` lines; a `setup` that fails here is red as well."""
    await copy_listed(run, worktree)
    for lines, work, seconds in (
        (run.settings.setup, "setup", run.settings.watch.setup_seconds),
        (run.settings.verify, "verify", run.settings.watch.verify_seconds),
    ):
        ended = await _run(run, lines, work, worktree, log, seconds)
        if not ended.is_green:
            how = f"took longer than {seconds} s" if ended.timed_out else f"exited with {ended.status}"
            return Red(ended.failed_line, how, ended.tail, str(log))
    return Green()


async def _run(run: Run, lines: Sequence[str], work: str, worktree: Worktree, log: Path, seconds: float) -> LinesEnded:
    return await run_lines(
        lines,
        wrapper=run.settings.wrapper,
        cwd=worktree.path,
        environment=run.environment("setup" if work == "setup" else "verify", worktree),
        log=log,
        timeout_seconds=seconds,
        stop_seconds=run.settings.watch.stop_seconds,
    )
