"""A program in a terminal that is ended hears SIGHUP only: SIGHUP and then SIGTERM make Vim delete all of /tmp."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from run_harness import until

from bench.second_machine import find_obstacle
from tasks_lib.process.marked_processes import end_marked
from tasks_lib.process.process_groups import MARKER, end_groups, run_group

SECONDS = 120
TOP = Path(__file__).resolve().parents[2]
IN_A_TERMINAL = "import pty, sys; pty.spawn(sys.argv[1:])"
RECORDER = """
import os, signal, sys
said = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.write(said, signal.Signals(number).name.encode() + b" "))
os.write(said, b"ready ")
while True:
    signal.pause()
"""
"""Says which signals it gets, until it is killed."""


class Recorder:
    """A recorder in a terminal of its own, with the marker of a session that is its alone."""

    def __init__(self, place: Path) -> None:
        self.marker: str = f"test-{uuid.uuid4().hex}"
        self._said: Path = place / "said"
        self._said.touch()
        self.command: tuple[str, ...] = (
            sys.executable, "-ESc", IN_A_TERMINAL, sys.executable, "-ESc", RECORDER, str(self._said),
        )  # fmt: skip

    def heard(self) -> list[str]:
        return self._said.read_text().split()

    async def wait_for(self, word: str) -> None:
        async with asyncio.timeout(SECONDS):
            await until(lambda: word in self.heard())


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


async def test_end_of_what_holds_the_terminal_is_the_only_signal(recorder: Recorder, tmp_path: Path) -> None:
    ended = await run_group(
        recorder.command, cwd=tmp_path, environment={MARKER: recorder.marker}, log=tmp_path / "log",
        timeout_seconds=SECONDS, stop_seconds=1, stop=lambda: "ready" in recorder.heard(),
    )  # fmt: skip
    assert ended.stopped
    assert set(recorder.heard()) == {"ready", "SIGHUP"}


async def end_by_session(marker: str) -> object:
    return await end_groups((), 1, session=marker)


async def end_by_mark(marker: str) -> object:
    return await end_marked(MARKER, marker, 1)


@pytest.mark.parametrize("end", [end_by_session, end_by_mark])
async def test_program_whose_terminal_was_closed_gets_no_other_signal(
    recorder: Recorder, end: Callable[[str], Awaitable[object]]
) -> None:
    owner = await asyncio.create_subprocess_exec(
        *recorder.command, env={MARKER: recorder.marker}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        await recorder.wait_for("ready")
    finally:
        owner.kill()
        await owner.wait()
    await recorder.wait_for("SIGHUP")
    assert await end(recorder.marker)
    assert set(recorder.heard()) == {"ready", "SIGHUP"}


CHOOSE = """
import subprocess, sys
from tasks_lib.process.ending_signals import choose_ending
process = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, start_new_session=sys.argv[1] == "new")
print("chosen:", choose_ending(int(process.stdout.readline())).name)
process.kill()
"""
"""Starts a program that prints the number of a process, in a `new` session or in this one; prints what ends that."""

HERE = (sys.executable, "-ESc", "import os, signal; print(os.getpid(), flush=True); signal.pause()")
OF_THE_SAME_NAME = """
import os, pty, signal, subprocess, sys
name = os.ttyname(0)
subprocess.run("mount -t devpts -o newinstance,ptmxmode=666 devpts /dev/pts", shell=True, check=True)
subprocess.run("mount --bind /dev/pts/ptmx /dev/ptmx", shell=True, check=True)
while os.ttyname((opened := pty.openpty())[1]) != name:
    pass
if os.fork() == 0:
    print_to = os.dup(1)
    os.login_tty(opened[1])
    os.write(print_to, f"{os.getpid()}\\n".encode())
    os.closerange(3, print_to + 1)  # It ends with its parent, which holds the other end of its terminal.
signal.pause()
"""
"""What a sandbox does with `--dev /dev`, until a terminal in it has the name of the one outside."""


@pytest.mark.parametrize("session", ["new", "same"])
def test_terminal_of_this_process_is_no_reason_for_another_signal(session: str) -> None:
    assert choose_in_a_terminal(session, *HERE) == "SIGTERM"


def choose_in_a_terminal(session: str, *command: str) -> str:
    """What ends the process that `command` tells of, for somebody at a terminal, which `command` gets as its input."""
    words = (sys.executable, "-ESc", IN_A_TERMINAL, sys.executable, "-c", CHOOSE, session, *command)
    done = subprocess.run(
        words, cwd=TOP, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=SECONDS
    )
    return done.stdout.partition("chosen: ")[2].strip()


@pytest.mark.skipif(bool(find_obstacle()), reason="mounts here cannot be changed for one process alone")
def test_terminal_of_the_same_name_in_a_sandbox_is_another_one() -> None:
    inside = (sys.executable, "-ESc", OF_THE_SAME_NAME)
    assert choose_in_a_terminal("same", "unshare", "--mount", *inside) == "SIGHUP"
