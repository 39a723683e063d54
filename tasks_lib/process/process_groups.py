"""Runs a program in its own process group, and ends that group with every process that left it."""

import asyncio
import os
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from tasks_lib.errors import AgentError
from tasks_lib.process.ending_signals import choose_ending
from tasks_lib.process.process_table import MARKER, Claim, GroupId, Row, find, is_alive, read_start
from tasks_lib.process.program_lookup import drop_relative, find_program
from tasks_lib.process.program_starts import require_start

__all__ = ["MARKER", "Ended", "GroupId", "end_group", "end_groups", "run_group"]

_OUTPUT_SECONDS = 0.5
"""How often to check the size of the log."""
MAX_LOG_BYTES = 64 << 20
"""How much of one program's output its log keeps; of more than that, only the first and last `KEPT_LOG_BYTES`."""
KEPT_LOG_BYTES = 8 << 20
_FIRST_POLL_SECONDS = 0.01
_LAST_POLL_SECONDS = 0.2
_KILL_SECONDS = 10.0
"""How long a killed process may take to exit; the kernel first frees its memory, which can be large."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended.

    `status` is its exit status, negative for a signal. `stopped` says that some of its processes were still running
    when it ended and were then ended, as always if it `timed_out`; `left_running`, that some were kept on request.
    `started` and `ended` are monotonic seconds. Its output is in the log from byte `log_start` up to `log_end`, without
    the middle if it was longer than `MAX_LOG_BYTES`; output of a process that outlived it comes after that.
    """

    status: int
    timed_out: bool
    stopped: bool
    left_running: bool
    started: float
    ended: float
    log_start: int
    log_end: int


async def run_group(
    argv: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    log: Path,
    stdin: bytes | None = None,
    timeout_seconds: float,
    stop_seconds: float,
    on_start: Callable[[GroupId], None] | None = None,
    on_output: Callable[[], None] | None = None,
    keep_background: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Ended:
    """Run `argv` until it exits, in `cwd`, with exactly `environment`, and append its output to `log`.

    Does not wait for others that keep its output open. Then (unless `keep_background` and it exited), on a timeout or
    cancellation, its group, descendants, and all with its marker, which is its alone, get the signal of `choose_ending`
    and, after `stop_seconds`, KILL. `on_start` is called before waiting; at most twice a second, `on_output` if the log
    has grown, and `stop`, which by returning True ends it. Raises AgentError if it cannot be started or ended.
    """
    marker = environment.get(MARKER) or f"group-{uuid.uuid4().hex}"
    with _open_log(log) as sink, _open_input(stdin) as source:
        began, log_start = time.monotonic(), _size(sink)
        starting = _start(argv, cwd, {**environment, MARKER: marker}, source, log)
        process, was_cancelled = await _await_despite_cancel(starting)
        claim = Claim((GroupId(process.pid, read_start(process.pid)),), marker, is_watched=True)
        try:
            _announce(claim.groups[0], on_start, was_cancelled)
            has_exited = await _watch(process, sink, log_start, timeout_seconds, on_output, stop)
            ended, log_end = time.monotonic(), _bound(sink, log_start)
        except BaseException:
            _, was_cancelled = await _await_despite_cancel(_end_and_reap(process, claim, stop_seconds))
            if was_cancelled:
                raise asyncio.CancelledError from None
            raise
        stopped, left_running = await _conclude(claim, stop_seconds, has_exited and keep_background)
        if not has_exited:
            ended, log_end = time.monotonic(), _bound(sink, log_start)
    return Ended(await process.wait(), not has_exited, stopped, left_running, began, ended, log_start, log_end)


async def _end_and_reap(process: asyncio.subprocess.Process, claim: Claim, stop_seconds: float) -> None:
    await _end(claim, stop_seconds)
    # A process whose memory is still being freed counts as ended, but keeps its ports until it is reaped.
    await process.wait()


def _announce(group: GroupId, on_start: Callable[[GroupId], None] | None, was_cancelled: bool) -> None:
    """Call `on_start` even if cancelled meanwhile: the group must be recorded first."""
    if on_start:
        on_start(group)
    if was_cancelled:
        raise asyncio.CancelledError


async def _conclude(claim: Claim, stop_seconds: float, keep_background: bool) -> tuple[bool, bool]:
    """End or keep the remaining processes; return whether any was stopped, and whether any is still running."""
    if keep_background:
        return False, bool(find(Claim(claim.groups, "", is_watched=True)))
    return await _end(claim, stop_seconds), False


async def end_group(group: GroupId, stop_seconds: float, *, session: str = "") -> bool:
    """End a group that an earlier coordinator recorded, and every process that has `session` as its marker.

    `group` counts only if its leader is the recorded process (or has the marker) or, once that one is gone, if a member
    has the marker. So a pid that the system has reused is never signalled. TERM, then KILL after `stop_seconds`.
    Returns whether any process was found. Raises AgentError if one cannot be ended.
    """
    return await _end(Claim((group,), session, is_watched=False), stop_seconds)


def find_group(group: GroupId, session: str = "") -> list[int]:
    """The numbers of the processes that `end_group` would end now."""
    return [row.pid for row in find(Claim((group,), session, is_watched=False))]


async def end_groups(groups: Sequence[GroupId], stop_seconds: float, *, session: str) -> bool:
    """End groups of this process whose leaders have exited but members remain, and every process marked `session`.

    Returns whether any process was found. Raises AgentError if one cannot be ended.
    """
    return await _end(Claim(tuple(groups), session, is_watched=True), stop_seconds)


@contextmanager
def _open_log(log: Path) -> Generator[int]:
    log.parent.mkdir(parents=True, exist_ok=True)
    # Append, so that programs that share a log never overwrite one another; private, as it may contain secrets.
    # A pipe or a link at this path was put there by an agent, since logs are below the shared directory.
    if log.is_symlink() or (log.exists() and not log.is_file()):
        log.rename(log.with_name(f"{log.name}.not-a-log-{uuid.uuid4().hex[:8]}"))
    sink = os.open(log, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield sink
    finally:
        os.close(sink)


@contextmanager
def _open_output(log: Path) -> Generator[int]:
    """Open the log for a program, write-only: vi and less fall back to reading keys from their standard error."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield output
    finally:
        os.close(output)


@contextmanager
def _open_input(stdin: bytes | None) -> Generator[IO[bytes] | None]:
    """Provide `stdin` as an unnamed file, not a pipe, so that a program that never reads it blocks nothing."""
    if stdin is None:
        yield None
        return
    with tempfile.TemporaryFile() as source:
        source.write(stdin)
        source.seek(0)
        yield source


def _size(sink: int) -> int:
    return os.fstat(sink).st_size


def _bound(sink: int, start: int) -> int:
    """Remove the middle of what was written since `start` if it is too long; return the new size of the log.

    Output written at this very moment may be lost. The program continues, and appends after what was kept.
    """
    size = _size(sink)
    if size - start <= MAX_LOG_BYTES:
        return size
    tail = os.pread(sink, KEPT_LOG_BYTES, size - KEPT_LOG_BYTES)
    left_out = size - start - 2 * KEPT_LOG_BYTES
    os.ftruncate(sink, start + KEPT_LOG_BYTES)
    note = f"\n[{left_out} bytes omitted here: a log keeps at most {MAX_LOG_BYTES >> 20} MiB of one program]\n"
    for part in (note.encode(), tail):
        os.write(sink, part)
    return _size(sink)


async def _start(
    argv: Sequence[str], cwd: Path, environment: Mapping[str, str], source: IO[bytes] | None, log: Path
) -> asyncio.subprocess.Process:
    with _open_output(log) as output:
        try:
            require_start()
            return await asyncio.create_subprocess_exec(
                *argv,
                executable=_choose_file(argv[0], environment),
                cwd=cwd,
                env=environment,
                stdin=source if source is not None else asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise AgentError(_describe(argv, cwd, environment.get("PATH", os.defpath), error)) from error


def _choose_file(program: str, environment: Mapping[str, str]) -> str | None:
    """Look `program` up in the absolute entries of its PATH, because an empty entry would mean the worktree.

    None for a path, which is relative to the worktree on purpose. Raises FileNotFoundError, or PermissionError.
    """
    if "/" in program or not program:
        return None
    search_path = environment.get("PATH", os.defpath)
    if found := find_program(program, search_path):
        return found
    is_there = any((Path(entry) / program).is_file() for entry in drop_relative(search_path).split(":"))
    raise PermissionError(program) if is_there else FileNotFoundError(program)


def _describe(argv: Sequence[str], cwd: Path, search_path: str, error: Exception) -> str:
    program = argv[0]
    where = f"in {cwd}" if "/" in program else f"on PATH ({search_path})"
    match error:
        case FileNotFoundError() if not cwd.is_dir():
            return f"{cwd} does not exist, so `{program}` cannot run in it: run again, which recreates the worktree"
        case FileNotFoundError() if find_program(str(cwd / program) if "/" in program else program, search_path):
            return f"the interpreter in the first line of `{program}` does not exist: correct its #! line"
        case FileNotFoundError() | NotADirectoryError():
            return f"`{program}` was not found {where}: install it, or correct the command in coordinator.yaml"
        case PermissionError():
            return f"`{program}` is not an executable file: chmod +x it, or correct the command in coordinator.yaml"
        case _:
            return f"`{program}` could not be started in {cwd}: {error}: correct the command in coordinator.yaml"


async def _watch(
    process: asyncio.subprocess.Process,
    sink: int,
    start: int,
    timeout_seconds: float,
    on_output: Callable[[], None] | None,
    stop: Callable[[], bool],
) -> bool:
    """Wait for the exit; False if `timeout_seconds` passed or `stop` returned True first.

    `start` is the size of the log at the start.
    """
    seen = start
    deadline = time.monotonic() + timeout_seconds
    exit_of = asyncio.ensure_future(process.wait())
    try:
        while not exit_of.done():
            left = deadline - time.monotonic()
            if left <= 0 or stop():
                return False
            await asyncio.wait({exit_of}, timeout=min(left, _OUTPUT_SECONDS))
            size = _bound(sink, start)
            if on_output and size != seen:
                on_output()
            seen = size
        return True
    finally:
        exit_of.cancel()


async def _await_despite_cancel(work: Coroutine[Any, Any, _T]) -> tuple[_T, bool]:
    """Await `work` to its end even if cancelled meanwhile; return its result, and whether that happened."""
    task, was_cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait({task})  # Unlike a bare await, this does not cancel the task when we are cancelled.
        except asyncio.CancelledError:
            was_cancelled = True
    return task.result(), was_cancelled


async def _end(claim: Claim, stop_seconds: float) -> bool:
    stopped, was_cancelled = await _await_despite_cancel(_terminate_then_kill(claim, stop_seconds))
    if was_cancelled:
        raise asyncio.CancelledError
    return stopped


async def _terminate_then_kill(claim: Claim, stop_seconds: float) -> bool:
    found = find(claim)
    if not found:
        return False
    try:
        await _terminate(claim, found, stop_seconds)
    finally:
        # Even if the event loop is closed while we wait: no process may outlive it.
        _send(claim, find(claim), _kill)
    await _wait_for_last(claim)
    return True


async def _terminate(claim: Claim, found: list[Row], stop_seconds: float) -> None:
    deadline = time.monotonic() + stop_seconds
    # The deadline applies here too: a program that starts its successor on TERM would get TERM forever.
    while found and time.monotonic() < deadline:
        _send(claim, found, choose_ending)
        if not await _are_gone(found, deadline):
            return
        found = find(claim)  # Include processes that were started since the last check.


async def _are_gone(rows: Sequence[Row], deadline: float) -> bool:
    pause = _FIRST_POLL_SECONDS
    while any(is_alive(row) for row in rows):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 2, _LAST_POLL_SECONDS)
    return True


async def _wait_for_last(claim: Claim) -> None:
    deadline = time.monotonic() + _KILL_SECONDS
    while left := find(claim):
        if time.monotonic() > deadline:
            numbers = ", ".join(str(row.pid) for row in left)
            raise AgentError(f"processes {numbers} cannot be ended: inspect them with `ps`, end them, and run again")
        _send(claim, left, _kill)
        await _are_gone(left, min(deadline, time.monotonic() + 1))


def _kill(_: int) -> signal.Signals:
    return signal.SIGKILL


def _send(claim: Claim, rows: Sequence[Row], choose: Callable[[int], signal.Signals]) -> None:
    """Signal each of `rows` once: the claim's groups as a whole, since they may be forking, the others one by one.

    `choose` returns the signal for a process; it is asked for all before any is sent, as ending one may close the
    terminal of another.
    """
    groups = {row.group for row in rows} & {group.pid for group in claim.groups} - {os.getpgrp()}
    chosen = [(os.killpg, pid, choose(pid)) for pid in groups]
    chosen += [(os.kill, row.pid, choose(row.pid)) for row in rows if row.group not in groups]
    for send, pid, number in chosen:
        with suppress(ProcessLookupError, PermissionError):
            send(pid, number)
