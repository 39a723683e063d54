"""Output is read until the program exits, even if another process keeps its pipes open."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell_runner import PATH, PATIENCE, has_gone

from tasks_lib.process.captured_output import collect, end_captured, run_captured
from tasks_lib.process.marked_processes import end_marked
from tasks_lib.process.program_starts import allow_starts, refuse_starts

ENVIRONMENT = {"PATH": PATH}
MARK = "COORDINATOR_TEST_OF_STATUSES"


def run(script: str) -> tuple[int, bytes, bytes]:
    done = run_captured(["sh", "-c", script], environment=ENVIRONMENT, seconds=PATIENCE)
    return done.status, done.stdout, done.stderr


def start(script: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ["sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        start_new_session=True,
    )


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Path]:
    """A file for the pid of a process that a test leaves running; the process is ended after the test."""
    path = tmp_path / "holder"
    yield path
    os.kill(int(path.read_text()), signal.SIGKILL)


def test_both_outputs_and_the_status_are_told() -> None:
    assert run("echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
    assert run("kill -KILL $$")[0] == -signal.SIGKILL


@pytest.mark.parametrize("held", ["2> /dev/null", "> /dev/null", ""])
@pytest.mark.parametrize("begin", ["", "setsid "])
def test_a_process_that_holds_the_output_is_not_waited_for(holder: Path, held: str, begin: str) -> None:
    leave = f"{begin}sleep 1000 {held} & echo $! > {holder}"
    assert run(f"echo out; {leave}; echo err >&2; exit 4") == (4, b"out\n", b"err\n")


def test_all_that_it_printed_is_there_when_another_goes_on_printing(holder: Path) -> None:
    status, out, _ = run(f"echo first; yes more & echo $! > {holder}")
    assert status == 0
    assert out.startswith(b"first\n")


def test_outputs_larger_than_a_pipe_arrive_whole_and_so_does_the_input() -> None:
    process = start("tee /dev/stderr")
    said = os.urandom(3_000_000)
    assert collect(process, said, PATIENCE) == (said, said)
    assert process.returncode == 0


def test_an_input_that_nobody_reads_holds_nobody_up() -> None:
    assert collect(start("exec 0< /dev/null; echo done"), b"x" * 1_000_000, PATIENCE) == (b"done\n", b"")
    assert collect(start("exec 0< /dev/null; exit 2"), b"", PATIENCE) == (b"", b"")


def test_a_program_that_closes_its_output_is_waited_for() -> None:
    assert run("exec > /dev/null 2>&1; read -r _ < /dev/null; exit 5") == (5, b"", b"")


def test_one_that_takes_too_long_is_ended_with_its_group(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    process = start(f"sleep 1000 & echo $! > {pid}; wait")
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        collect(process, b"", 0.1)
    end_captured(process)
    assert process.returncode == -signal.SIGTERM
    while not has_gone(int(pid.read_text())):
        pass
    with pytest.raises(subprocess.TimeoutExpired):
        run_captured(["sleep", "1000"], environment=ENVIRONMENT, seconds=0.1)


def test_a_program_reads_no_input_and_has_no_terminal() -> None:
    look = "import sys; print(sys.stdin.read() == '', end=' '); open('/dev/tty')"
    done = run_captured([sys.executable, "-c", look], environment=ENVIRONMENT, seconds=PATIENCE)
    assert done.stdout == b"True "
    assert b"No such device or address" in done.stderr


def test_nothing_is_started_once_starts_are_refused(tmp_path: Path) -> None:
    refuse_starts()
    try:
        with pytest.raises(OSError, match="is exiting and starts no further programs"):
            run(f"touch {tmp_path}/begun")
    finally:
        allow_starts()
    assert list(tmp_path.iterdir()) == []
    assert run("exit 0")[0] == 0


async def test_program_that_is_ended_as_a_marked_process_keeps_its_exit_status(tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, MARK: str(tmp_path)}
    up = tmp_path / "up"
    os.mkfifo(up)
    script = f"echo > {up}; exec sleep 1000"
    job = asyncio.create_task(asyncio.to_thread(run_captured, ["sh", "-c", script], environment=environment))
    async with asyncio.timeout(PATIENCE):
        await asyncio.to_thread(up.read_text)
        assert await end_marked(MARK, str(tmp_path), PATIENCE) >= 1
        assert (await job).status == -signal.SIGTERM
