"""Turns of real programs that hang are ended with what they wait for; those that are only slow are not."""

import itertools
import os
import shutil
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from silence import read_silence

from tasks_lib.agents.backend import SessionSpec, SessionView, TurnEnd, TurnSpec
from tasks_lib.agents.command_backend import CommandBackend
from tasks_lib.process.process_table import Claim, find
from tasks_lib.session.liveness import SilenceLimits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
LIMITS = SilenceLimits(stall_seconds=3, tool_seconds=3, input_seconds=1)
PATIENCE_SECONDS = 120
TURN = TurnSpec(attempt=1, turn=1, target="abc")
IN_A_TERMINAL = (
    "import pty, sys; sys.exit(pty.spawn(sys.argv[1:], stdin_read=lambda fd: __import__('time').sleep(999)))"
)
"""Runs a program in a terminal of its own in which nobody types, as agents do."""


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[SessionSpec]:
    (tmp_path / "worktree").mkdir()
    made = SessionSpec(
        session=f"test-{uuid.uuid4().hex}", role="r", task_id="a", task_file="tasks/a.md", branch="feat/a", slot=1,
        cwd=tmp_path / "worktree", environment={"PATH": os.environ["PATH"], "TERM": "xterm", "TMPDIR": str(tmp_path)},
        log=tmp_path / "session.log", prompt_directory=tmp_path / "prompts", turn_seconds=PATIENCE_SECONDS, stop_seconds=1,
    )  # fmt: skip
    yield made
    left = find(Claim((), made.session, is_watched=False))
    for row in left:
        os.kill(row.pid, signal.SIGKILL)
    assert left == []


async def run(spec: SessionSpec, *command: str, limits: SilenceLimits = LIMITS) -> TurnEnd:
    return await CommandBackend(command, (), limits).open(spec).prompt("Do it.", TURN)


def find_program(name: str) -> str:
    """The program's path; skips aloud without it, which is a failure in CI."""
    found = shutil.which(name)
    if found is None:
        assert not os.environ.get("CI"), f"{name} is needed"
        pytest.skip(f"{name} is not installed")
    return found


HUNG = {
    "sleeps": ["sleep", "1000"],
    "polls": ["sh", "-c", "while [ ! -e never ]; do sleep 0.5; done"],
    "waits for a child": ["sh", "-c", "sleep 1000; true"],
    "reads a pipe that nobody writes": ["sh", "-c", "mkfifo p; cat p"],
}


@pytest.mark.parametrize("name", HUNG)
async def test_turn_in_which_nothing_happens_is_ended(spec: SessionSpec, name: str) -> None:
    end = await run(spec, *HUNG[name])
    assert read_silence(end.stall) >= 3
    assert (end.timed_out, end.error) == (False, end.stall)
    assert end.status != 0


async def test_turn_that_waits_for_a_server_that_never_answers_is_ended(spec: SessionSpec) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]})).recv(1)"
        end = await run(spec, sys.executable, "-ESc", code)
    assert "running `" in end.stall


WAITING = {
    "a pager": ("less", ["less", "/etc/services"]),
    "an editor": ("vi", ["vi", "notes.txt"]),
    "a password": (sys.executable, [sys.executable, "-ESc", "import getpass; getpass.getpass()"]),
    "a question": ("sh", ["sh", "-c", "printf 'Overwrite? [y/n] '; read answer"]),
}


@pytest.mark.parametrize("name", WAITING)
async def test_program_that_waits_at_a_terminal_is_named(spec: SessionSpec, name: str) -> None:
    program, command = WAITING[name]
    find_program(program)
    end = await run(spec, sys.executable, "-ESc", IN_A_TERMINAL, *command)
    assert "waits for input at its terminal" in end.stall
    assert Path(program).name in end.stall


async def test_shell_at_its_prompt_is_nobody_to_wait_for(spec: SessionSpec) -> None:
    end = await run(spec, sys.executable, "-ESc", IN_A_TERMINAL, "sh")
    assert read_silence(end.stall) >= 3
    assert "waits for input" not in end.stall


BURSTS = (
    "import time\nfor _ in range(16):\n began = time.process_time()\n"
    " while time.process_time() < began + 0.05: pass\n time.sleep(0.5)"
)
WRITES = "import time\nwith open('x', 'wb', 0) as f:\n for _ in range(16): f.write(b'x' * 4096); time.sleep(0.5)"
SLOW = {
    "computes now and then": [sys.executable, "-ESc", BURSTS],
    "computes in a child": ["sh", "-c", f'"{sys.executable}" -ESc "{BURSTS}"; true'],
    "prints a dot now and then": [
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do printf .; sleep 0.5; done",
    ],
    "copies slowly": [sys.executable, "-ESc", WRITES],
}
"""Each takes longer than a silence may last."""


@pytest.mark.parametrize("name", SLOW)
async def test_turn_that_is_only_slow_is_left_alone(spec: SessionSpec, name: str) -> None:
    limits = SilenceLimits(stall_seconds=6, tool_seconds=6, input_seconds=6)
    end = await run(spec, *SLOW[name], limits=limits)
    assert (end.status, end.stall, end.error) == (0, "", "")


async def test_what_a_turn_does_is_shown(spec: SessionSpec) -> None:
    shown: list[SessionView] = []
    await run(replace(spec, on_view=shown.append), "sh", "-c", "sleep 1000; true")
    assert {view.activity for view in shown} >= {"running `sleep 1000`"}
    assert all(view.active_at and view.spent.turns == 1 for view in shown)


REPEATS = (
    "import time\nwhile True:\n print('read a.txt', 'no such file', 'thinking', sep='\\n', flush=True); time.sleep(0.1)"
)


async def look() -> str:
    return "the same"


async def test_program_that_prints_the_same_lines_again_and_again_is_stopped(spec: SessionSpec) -> None:
    end = await run(replace(spec, digest_worktree=look), sys.executable, "-ESc", REPEATS)
    assert (end.timed_out, end.stall) == (False, "")
    assert end.loop == end.error
    assert "the output repeated earlier lines" in end.loop


async def test_program_that_prints_the_same_lines_and_changes_the_worktree_is_left_alone(spec: SessionSpec) -> None:
    states = itertools.count()

    async def change() -> str:
        return str(next(states))

    code = REPEATS.replace("while True", "for _ in range(120)")
    end = await run(replace(spec, digest_worktree=change), sys.executable, "-ESc", code)
    assert (end.status, end.loop) == (0, "")
    assert next(states) > 2
