"""Shell lines and the end of their output, with a real shell."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks_lib.errors import AgentError
from tasks_lib.process.process_groups import MARKER, GroupId
from tasks_lib.process.process_table import Claim, find
from tasks_lib.process.shell_lines import LinesEnded, run_lines, tail_of


async def run(
    directory: Path,
    session: str,
    *lines: str,
    wrapper: Sequence[str] = (),
    timeout_seconds: float = 20,
    groups: list[GroupId] | None = None,
) -> LinesEnded:
    return await run_lines(
        lines,
        wrapper=wrapper,
        cwd=directory,
        environment={"PATH": os.environ["PATH"], MARKER: session},
        log=directory / "logs" / "log",
        timeout_seconds=timeout_seconds,
        stop_seconds=2,
        on_start=None if groups is None else groups.append,
    )


async def test_all_lines_are_run_in_order_under_a_header_each(tmp_path: Path, session: str) -> None:
    ended = await run(tmp_path, session, "echo one > file", "cat file && pwd")
    assert ended.is_green
    assert (ended.failed_line, ended.status, ended.tail) == ("", 0, f"one\n{tmp_path}")
    log = (tmp_path / "logs" / "log").read_text()
    assert log == f"$ echo one > file\n$ cat file && pwd\none\n{tmp_path}\n"
    assert (ended.log_start, ended.log_end) == (0, len(log))


async def test_the_first_line_that_fails_is_the_last_that_runs(tmp_path: Path, session: str) -> None:
    ended = await run(tmp_path, session, "echo fine", "echo broken >&2; exit 7", "touch never")
    assert (ended.is_green, ended.failed_line, ended.status) == (False, "echo broken >&2; exit 7", 7)
    assert ended.tail == "broken"
    assert not (tmp_path / "never").exists()


async def test_no_lines_are_green(tmp_path: Path, session: str) -> None:
    assert (await run(tmp_path, session)).is_green


async def test_the_wrapper_stands_before_the_shell(tmp_path: Path, session: str) -> None:
    ended = await run(tmp_path, session, 'echo "$WRAPPED"', wrapper=["env", "WRAPPED=yes"])
    assert ended.tail == "yes"


async def test_a_wrapper_that_is_not_there_says_nothing_about_the_line(tmp_path: Path, session: str) -> None:
    with pytest.raises(AgentError, match="`no-such-wrapper` was not found on PATH"):
        await run(tmp_path, session, "true", wrapper=["no-such-wrapper"])


async def test_the_time_is_for_all_lines_together(tmp_path: Path, session: str) -> None:
    ended = await run(tmp_path, session, "sleep 0.1", "echo here; sleep 1000", timeout_seconds=1.2)
    assert (ended.is_green, ended.timed_out, ended.failed_line) == (False, True, "echo here; sleep 1000")
    assert ended.tail == "here"


async def test_what_a_line_started_serves_the_next_and_is_ended_after_the_last(tmp_path: Path, session: str) -> None:
    os.mkfifo(tmp_path / "ask")
    groups: list[GroupId] = []
    server = "(while read word < ask; do echo served $word; done; sleep 1000) & setsid sleep 1000 & env -i sleep 1000 & echo $! > pid"
    ended = await run(tmp_path, session, server, "true", "kill -0 $(cat pid) && echo a > ask", groups=groups)
    assert ended.is_green
    assert len(groups) == 3
    assert find(Claim(tuple(groups), session, is_watched=True)) == []


async def test_a_line_that_hangs_takes_with_it_what_earlier_lines_left(tmp_path: Path, session: str) -> None:
    await run(tmp_path, session, "setsid sleep 1000 & true", "sleep 1000", timeout_seconds=1)
    assert find(Claim((), session, is_watched=False)) == []


def write(directory: Path, text: str | bytes) -> tuple[Path, int]:
    log = directory / "log"
    log.write_bytes(text if isinstance(text, bytes) else text.encode())
    return log, log.stat().st_size


def test_a_tail_starts_at_the_start_of_a_line(tmp_path: Path) -> None:
    log, size = write(tmp_path, "first line\nsecond line\nthird line\n")
    assert tail_of(log, 0, size, max_bytes=15) == "third line"
    assert tail_of(log, 0, size, max_bytes=11) == "third line"
    assert tail_of(log, 0, size, max_bytes=10) == "hird line"
    assert tail_of(log, 11, 23) == "second line"
    assert tail_of(log, 6, 10) == "line"
    assert tail_of(log, 0, size, max_lines=2) == "second line\nthird line"
    assert tail_of(log, 5, 5) == ""


def test_a_tail_reads_as_it_did_on_a_terminal(tmp_path: Path) -> None:
    log, size = write(
        tmp_path,
        b"\x1b]0;title\x07\x1b[1;31mred\x1b[0m\r\n 10%\r 90%\r100%\n\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\\nbad \xff byte\x00\n",
    )
    assert tail_of(log, 0, size) == "red\n100%\nlink\nbad \ufffd byte"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 300), st.integers(1, 200), st.integers(1, 9))
def test_a_tail_is_bounded_whatever_the_bytes(
    tmp_path: Path, text: bytes, start: int, end: int, max_bytes: int, max_lines: int
) -> None:
    log, size = write(tmp_path, text)
    tail = tail_of(log, start, min(end, size), max_bytes=max_bytes, max_lines=max_lines)
    assert len(tail) <= max_bytes
    assert len(tail.split("\n")) <= max_lines
    assert "\x1b" not in tail
