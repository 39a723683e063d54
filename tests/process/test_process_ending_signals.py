"""A program in a terminal that is ended hears SIGHUP only: SIGHUP and then SIGTERM make Vim delete all of /tmp."""

import asyncio
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tasks_lib.process.marked_processes import end_marked
from tasks_lib.process.process_groups import MARKER, end_groups, run_group

SECONDS = 120
IN_A_TERMINAL = "import pty, sys; pty.spawn(sys.argv[1:])"
RECORDER = """
import os, signal, sys
said = os.open(sys.argv[1], os.O_WRONLY)
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.write(said, signal.Signals(number).name.encode() + b" "))
os.write(said, b"ready ")
while True:
    signal.pause()
"""
"""Says which signals it gets, until it is killed."""


@pytest.fixture
def marker() -> str:
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def said(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "said")
    return tmp_path / "said"


def record_in_a_terminal(said: Path) -> tuple[str, ...]:
    return (sys.executable, "-ESc", IN_A_TERMINAL, sys.executable, "-ESc", RECORDER, str(said))


async def test_end_of_what_holds_the_terminal_is_the_only_signal(said: Path, marker: str, tmp_path: Path) -> None:
    heard, ready = list[str](), threading.Event()

    def hear() -> None:
        with said.open() as pipe:
            while word := read_word(pipe.read):
                heard.append(word)
                ready.set()

    hearing = asyncio.create_task(asyncio.to_thread(hear))
    ended = await run_group(
        record_in_a_terminal(said), cwd=tmp_path, environment={MARKER: marker}, log=tmp_path / "log",
        timeout_seconds=SECONDS, stop_seconds=1, stop=ready.is_set,
    )  # fmt: skip
    await hearing
    assert ended.stopped
    assert heard[0] == "ready"
    assert set(heard[1:]) == {"SIGHUP"}


def read_word(read: Callable[[int], str]) -> str:
    word = ""
    while (letter := read(1)) not in ("", " "):
        word += letter
    return word


@pytest.fixture
def orphan(said: Path, marker: str) -> Iterator[Callable[[], str]]:
    """A recorder whose terminal was closed a moment ago; returns the next word that it says."""
    owner = subprocess.Popen(
        record_in_a_terminal(said), env={MARKER: marker}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    with said.open() as pipe:
        assert read_word(pipe.read) == "ready"
        owner.kill()
        owner.wait()
        yield lambda: read_word(pipe.read)


async def end_by_session(marker: str) -> object:
    return await end_groups((), 1, session=marker)


async def end_by_mark(marker: str) -> object:
    return await end_marked(MARKER, marker, 1)


@pytest.mark.parametrize("end", [end_by_session, end_by_mark])
async def test_program_whose_terminal_was_closed_gets_no_other_signal(
    orphan: Callable[[], str], marker: str, end: Callable[[str], Awaitable[object]]
) -> None:
    assert orphan() == "SIGHUP"
    assert await end(marker)
    heard = set[str]()
    while word := orphan():
        heard.add(word)
    assert heard <= {"SIGHUP"}
