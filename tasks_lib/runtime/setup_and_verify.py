"""Runs the repository's `setup` and `verify` lines in a worktree, and reports green or red."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import AgentError, ShellError
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.process.shell_lines import LinesEnded, run_lines, tail_of
from tasks_lib.project.child_environment import Kind
from tasks_lib.runtime.copied_files import copy_listed
from tasks_lib.runtime.run_context import Run
from tasks_lib.settings.schema import Settings
from tasks_lib.verify_output import explain_broken, list_untested_lines

MAX_READ_BYTES = 1 << 20
"""A line that prints more than this has certainly run a test."""


@dataclass(frozen=True, slots=True)
class Green:
    """Every line exited with 0. `idle` are `verify` lines whose runner reports that it ran no tests, with its words.

    `is_vacuous` means that no other line of `verify` checked anything. `tail` is the end of the last line's output,
    `log` contains all of it.
    """

    idle: tuple[tuple[str, str], ...] = ()
    is_vacuous: bool = False
    tail: str = ""
    log: str = ""


def describe_untested_lines(green: Green) -> str:
    """Return a sentence naming a line that ran no tests, with its runner's words."""
    line, said = green.idle[0]
    return f"`{line}` runs no test ({said}), and no other line of `verify` checks anything"


@dataclass(frozen=True, slots=True)
class Red:
    """`line` did not pass; `how` describes how it ended, `tail` is the end of its output, `log` contains all of it.

    `broken` is why it may have been unable to run in the first place, "" if there is no sign of that.
    """

    line: str
    how: str
    tail: str
    log: str
    broken: str = ""


async def run_setup(settings: Settings, environment: Mapping[str, str], cwd: Path, log: Path) -> None:
    """Run the `setup` lines in the worktree `cwd`. Raises ShellError naming the line that failed."""
    if not settings.setup:
        return
    ended = await _run(settings, "setup", environment, cwd, log)
    if not ended.is_green:
        raise ShellError(ended.failed_line, ended.status, ended.tail, str(log))


async def run_verify(
    run: Run, worktree: Worktree, log: Path, after_setup: Callable[[], Awaitable[None]] | None = None
) -> Green | Red:
    """Prepare `worktree` like the agent's, and run the `verify` lines; a failed `setup` is red as well."""
    await copy_listed(run, worktree)
    return await judge(
        run.settings, lambda kind: run.agents.environment(kind, worktree), worktree.path, log, after_setup
    )


async def judge(
    settings: Settings,
    see: Callable[[Kind], Mapping[str, str]],
    cwd: Path,
    log: Path,
    after_setup: Callable[[], Awaitable[None]] | None = None,
) -> Green | Red:
    """Run the `setup` and `verify` lines in `cwd` with the environments from `see`; `after_setup` runs in between."""
    kinds: tuple[Kind, ...] = ("setup", "verify")
    idle: tuple[tuple[str, str], ...] = ()
    tail = ""
    for kind in kinds:
        try:
            ended = await _run(settings, kind, see(kind), cwd, log)
        except AgentError as error:  # The wrapper cannot be started, which says nothing about the lines.
            return Red(" ".join(settings.wrapper) or kind, "could not be started", str(error), str(log), str(error))
        if not ended.is_green:
            return _describe_red(settings, kind, ended, log)
        if kind == "setup" and after_setup:
            await after_setup()
        outputs = ((line, _read_output(log, start, end)) for line, start, end in ended.ran)
        idle, tail = (list_untested_lines(outputs), ended.tail) if kind == "verify" else ((), "")
    return Green(idle, bool(idle) and len(idle) == len(settings.verify), tail, str(log))


def _describe_red(settings: Settings, kind: Kind, ended: LinesEnded, log: Path) -> Red:
    seconds = settings.watch.setup_seconds if kind == "setup" else settings.watch.verify_seconds
    how = f"took longer than {seconds} s" if ended.timed_out else f"exited with {ended.status}"
    broken = "" if ended.timed_out else explain_broken(ended.status, ended.tail)
    return Red(ended.failed_line, how, ended.tail, str(log), broken)


def _read_output(log: Path, start: int, end: int) -> str:
    return tail_of(log, start, end, MAX_READ_BYTES, MAX_READ_BYTES) if end - start <= MAX_READ_BYTES else ""


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
