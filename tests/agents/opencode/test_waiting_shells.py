"""Programs of a real opencode's shell that wait for input, hang or work in silence."""

import shlex
import shutil
import sys
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from session_fixtures import SessionFixture, bash, open_lab

from tasks_lib.agents.opencode.turns.session_adapter import SessionLimits

pytestmark = [
    pytest.mark.xdist_group("opencode"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc"),
]
LIMITS = SessionLimits(stall_seconds=60, tool_seconds=60, input_seconds=2)
IN_A_TERMINAL = "import pty, sys, time; pty.spawn(sys.argv[1:], stdin_read=lambda fd: time.sleep(999))"
"""Runs a program in a terminal of its own in which nobody types, as agents do with `script` or `tmux`."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[SessionFixture]:
    async with open_lab(tmp_path_factory.mktemp("lab")) as opened:
        yield opened


def in_a_terminal(*words: str) -> str:
    return shlex.join([sys.executable, "-ESc", IN_A_TERMINAL, *words])


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


WITHOUT_A_TERMINAL = {
    "a pager": ("less", "less /etc/services | tail -n 1"),
    "an editor": ("vi", "vi notes.txt < /dev/null > /dev/null 2>&1"),
    "a message for a commit": ("git", "git commit --allow-empty"),
    "a question": ("sh", "read -r answer"),
    "a password": (sys.executable, f"{sys.executable} -ESc 'import getpass; getpass.getpass()'"),
}


@pytest.mark.parametrize("name", WITHOUT_A_TERMINAL)
async def test_program_without_a_terminal_does_not_wait(lab: SessionFixture, name: str) -> None:
    program, line = WITHOUT_A_TERMINAL[name]
    need(program)
    one = lab.open(limits=LIMITS)
    end = await one.do([bash(f"{line}; echo ended"), {"say": "went on"}])
    assert (end.status, end.answer, end.stall) == (0, "went on", "")
    assert "ended" in one.log


WITH_A_TERMINAL = {
    "a pager": ("less", "/etc/services"),
    "an editor": ("vi", "notes.txt"),
    "a password": (sys.executable, "-ESc", "import getpass; getpass.getpass()"),
    "a question": ("sh", "-c", "printf 'Overwrite? [y/n] '; read -r answer"),
}


@pytest.mark.parametrize("name", WITH_A_TERMINAL)
async def test_program_that_waits_at_a_terminal_is_named(lab: SessionFixture, name: str) -> None:
    program, *words = WITH_A_TERMINAL[name]
    need(program)
    one = lab.open(limits=LIMITS)
    line = f"TMPDIR={one.spec.cwd} {in_a_terminal(program, *words)}"
    end = await one.do([bash(line, timeout=700_000), {"say": "never"}])
    assert end.status == 1
    assert end.stall == end.error
    assert f"`{program} {words[0]}" in end.stall
    assert "waits for input at its terminal" in end.stall
    assert one.left == []


async def test_tool_that_works_in_silence_is_left_alone(lab: SessionFixture) -> None:
    limits = SessionLimits(stall_seconds=3, tool_seconds=3, input_seconds=3)
    one = lab.open(limits=limits)
    code = (
        "import time\nfor _ in range(20):\n began = time.process_time()\n"
        " while time.process_time() < began + 0.1: pass\n time.sleep(0.4)"
    )
    end = await one.do([bash(shlex.join([sys.executable, "-ESc", code]), timeout=700_000), {"say": "built"}])
    assert (end.status, end.answer, end.stall) == (0, "built", "")
    assert end.spent.seconds > 2 * limits.tool_seconds


async def test_what_a_shell_waits_for_is_shown(lab: SessionFixture) -> None:
    one = lab.open(limits=SessionLimits(stall_seconds=60, tool_seconds=60, input_seconds=6))
    await one.do([bash(in_a_terminal("sh", "-c", "read -r answer"), timeout=700_000), {"say": "never"}])
    assert [view for view in one.watcher.views if "waits for input" in view.activity]
