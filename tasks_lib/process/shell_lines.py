"""Runs the shell lines of `setup` and `verify` in order, and reports what failed with the end of its output."""

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tasks_lib.process.process_groups import MARKER, Ended, GroupId, end_groups, run_group

_SHELL = ("/bin/sh", "-c")
"""POSIX sh rather than bash: every image that a wrapper may enter has it, and a line means the same everywhere."""
_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # Operating system commands: titles and links.
    r"|\x1b\[[0-?]*[ -/]*[@-~]?"  # Control sequences: colours, cursor moves, erasing.
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class LinesEnded:
    """How a list of shell lines ended.

    `failed_line` is the line that failed ("" if none did), `status` its exit status (negative for a signal), `tail` the
    end of what that line, or the last one, printed. The whole output is in the log from byte `log_start` up to
    `log_end`; `ran` contains each line that was run and where its output is in the log.
    """

    is_green: bool
    failed_line: str
    status: int
    timed_out: bool
    tail: str
    log_start: int
    log_end: int
    ran: tuple[tuple[str, int, int], ...] = ()


async def run_lines(
    lines: Sequence[str],
    *,
    wrapper: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    log: Path,
    timeout_seconds: float,
    stop_seconds: float,
    on_start: Callable[[GroupId], None] | None = None,
) -> LinesEnded:
    """Run `lines` with `wrapper` and a shell, up to the first that fails; `timeout_seconds` is for all of them.

    What a line leaves running in the background (e.g. a database for the tests) keeps running until the last line has
    ended, and is then ended. `on_start` is called for each line. Raises AgentError, as `run_group` does, if the wrapper
    cannot be started, which says nothing about the lines.
    """
    marked = {**environment, MARKER: environment.get(MARKER) or f"lines-{uuid.uuid4().hex}"}
    deadline, kept = time.monotonic() + timeout_seconds, list[GroupId]()
    start, result, ran = _size_of(log), None, list[tuple[str, int, int]]()
    record = _recorder(kept, on_start)
    run = partial(run_group, cwd=cwd, environment=marked, log=log, stop_seconds=stop_seconds, keep_background=True)
    try:
        for line in lines:
            _write_header(line, log)
            left_seconds = deadline - time.monotonic()
            ended = await run([*wrapper, *_SHELL, line], timeout_seconds=left_seconds, on_start=record)
            if not ended.left_running:
                kept.pop()
            ran.append((line, ended.log_start, ended.log_end))
            result = replace(_judge(line, ended, start, log), ran=tuple(ran))
            if not result.is_green:
                break
    finally:
        await end_groups(kept, stop_seconds, session=marked[MARKER])
    return result or LinesEnded(True, "", 0, False, "", start, start)


def _recorder(started: list[GroupId], on_start: Callable[[GroupId], None] | None) -> Callable[[GroupId], None]:
    def record(group: GroupId) -> None:
        started.append(group)
        if on_start:
            on_start(group)

    return record


def _judge(line: str, ended: Ended, start: int, log: Path) -> LinesEnded:
    is_green = ended.status == 0 and not ended.timed_out
    tail = tail_of(log, ended.log_start, ended.log_end)
    failed_line = "" if is_green else line
    return LinesEnded(is_green, failed_line, ended.status, ended.timed_out, tail, start, ended.log_end)


def _write_header(line: str, log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch(mode=0o600)
    with log.open("ab") as sink:
        sink.write(f"$ {line}\n".encode("utf-8", "surrogateescape"))


def _size_of(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def tail_of(log: Path, start: int, end: int, max_bytes: int = 4000, max_lines: int = 60) -> str:
    """Return the end of bytes `start` to `end` of `log`, as it would have looked on a terminal.

    At most `max_bytes`, cut at the start of a line if there is one, and at most `max_lines`. Undecodable bytes are
    replaced, escape sequences and control characters are removed, and of a line that was overwritten with carriage
    returns only the last state is kept.
    """
    first = max(start, end - max_bytes, 0)
    # Read one byte more, to see whether the cut is already at the start of a line.
    try:
        with log.open("rb") as source:
            source.seek(max(first - 1, start))
            found = source.read(max(end - max(first - 1, start), 0))
    except FileNotFoundError:  # An agent can delete it: logs are below the directory that all worktrees share.
        return ""
    if first > start:
        _, newline, rest = found.partition(b"\n")
        found = rest if newline and rest else found[1:]
    text = _ESCAPES.sub("", found.decode("utf-8", "replace")).replace("\r\n", "\n")
    lines = [_CONTROLS.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in text.rstrip("\n").split("\n")]
    return "\n".join(lines[-max_lines:])
