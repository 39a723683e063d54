"""Runs the repository's own `setup` and `verify` lines in a worktree, and says green or red."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import ShellError
from tasks_lib.git.worktrees import Worktree
from tasks_lib.life.copying import copy_listed
from tasks_lib.life.run import Run
from tasks_lib.life.surroundings import Kind
from tasks_lib.process.shell import LinesEnded, run_lines
from tasks_lib.settings import Settings


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
    ended = await _run(run.settings, "setup", run.environment("setup", worktree), worktree.path, log)
    if not ended.is_green:
        raise ShellError(ended.failed_line, ended.status, ended.tail, str(log))


async def run_verify(run: Run, worktree: Worktree, log: Path) -> Green | Red:
    """Make `worktree` as the agent's was, and run the `verify` lines; a `setup` that fails here is red as well."""
    await copy_listed(run, worktree)
    red = await find_red(run.settings, lambda kind: run.environment(kind, worktree), worktree.path, log)
    return red or Green()


async def find_red(settings: Settings, see: Callable[[Kind], Mapping[str, str]], cwd: Path, log: Path) -> Red | None:
    """Run the `setup` and `verify` lines in `cwd`, each kind with what `see` makes; what did not pass, or None."""
    kinds: tuple[Kind, ...] = ("setup", "verify")
    for kind in kinds:
        ended = await _run(settings, kind, see(kind), cwd, log)
        if not ended.is_green:
            seconds = settings.watch.setup_seconds if kind == "setup" else settings.watch.verify_seconds
            how = f"took longer than {seconds} s" if ended.timed_out else f"exited with {ended.status}"
            return Red(ended.failed_line, how, ended.tail, str(log))
    return None


async def _run(settings: Settings, kind: Kind, environment: Mapping[str, str], cwd: Path, log: Path) -> LinesEnded:
    is_setup = kind == "setup"
    return await run_lines(
        settings.setup if is_setup else settings.verify,
        wrapper=settings.wrapper,
        cwd=cwd,
        environment=environment,
        log=log,
        timeout_seconds=settings.watch.setup_seconds if is_setup else settings.watch.verify_seconds,
        stop_seconds=settings.watch.stop_seconds,
    )
