"""A session whose processes use more memory than allowed: the largest of them is ended, and everybody is told."""

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from agents.opencode.session_fixtures import bash, open_lab
from run_harness import RunHarness

from tasks_lib.agents import memory_guard
from tasks_lib.process.process_memory import measure_memory
from tasks_lib.process.process_table import MARKER
from tasks_lib.reporting.run_report import ExitCode

LIMIT_MB = 300
HOG = f"""{sys.executable} -c '
import signal
kept = bytearray(700_000_000)
signal.pause()
'"""


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_guard, "LOOK_SECONDS", 0.2)


async def test_tool_that_uses_too_much_is_ended_and_its_agent_continues(harness: RunHarness) -> None:
    harness.make({"a": {}}, f"({HOG}) || echo ended with $?\nwork", watch={"memory_mb": LIMIT_MB})
    worked = await harness.work()
    assert (worked.code, worked.retries) == (ExitCode.COMPLETED, [])
    [said] = [line for line in worked.view.messages if "watch.memory_mb" in line]
    assert said.startswith(f"a: `{sys.executable} -c import signal kept")
    assert said.endswith(f"and watch.memory_mb allows {LIMIT_MB}.")


async def test_agent_that_uses_too_much_itself_fails_its_attempt_with_the_reason(harness: RunHarness) -> None:
    agent = f"if [ $attempt = 1 ]; then exec {HOG}; fi\nwork"
    harness.make({"a": {}}, agent, watch={"memory_mb": LIMIT_MB})
    worked = await harness.work()
    assert worked.code is ExitCode.COMPLETED
    [why] = worked.retries
    assert "watch.memory_mb allows" in str(why)
    assert "watch.memory_mb allows" in harness.journal.read("a-2-1")


async def test_session_without_a_limit_is_left_alone(harness: RunHarness) -> None:
    harness.make({"a": {}}, f"timeout -s KILL 2 {HOG} || work", watch={"memory_mb": 0})
    worked = await harness.work()
    assert worked.code is ExitCode.COMPLETED
    assert [line for line in worked.view.messages if "memory" in line] == []


def test_memory_that_processes_share_counts_once() -> None:
    """Forked workers of a test runner share most of their memory, so that their sum by process is far too high."""
    code = "import os, sys; kept = b'x' * 200_000_000; os.fork(); os.fork(); print(flush=True); sys.stdin.read()"
    marked = {**os.environ, MARKER: "memory-test"}
    with subprocess.Popen([sys.executable, "-c", code], env=marked, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(4)]
        found = measure_memory("memory-test", 100, 0.0)
        process.stdin.close()
    assert len(lines) == 4
    assert found is not None
    assert 200 <= found.total_mb < 400


@pytest.mark.xdist_group("opencode")
async def test_shell_of_opencode_is_ended_and_the_model_is_told(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as lab:
        said: list[str] = []
        one = lab.open(memory_mb=LIMIT_MB, on_excess=said.append)
        one.session = memory_guard.guard_memory(one.session, one.spec)
        end = await one.do([bash(f"({HOG}); echo ended with $?"), {"say": "done"}])
        log = one.log
    assert (end.status, len(said)) == (0, 1)
    assert "ended with 137" in log
    assert "watch.memory_mb allows" in log
