"""The command backend, with agents that are real, misbehaving programs."""

import asyncio
import json
import os
import signal
import sys
import tracemalloc
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.agents.backend import Backend, Session, SessionSpec, TurnSpec
from tasks_lib.agents.command_backend import ANSWER_BYTES, CommandBackend, check_command
from tasks_lib.agents.command_turns import fill
from tasks_lib.errors import AgentError
from tasks_lib.process.allowed_variables import TURN_NAMES
from tasks_lib.process.process_groups import GroupId
from tasks_lib.process.process_table import Claim, find

FIRST = TurnSpec(attempt=2, turn=1, target="abc123")
PATIENCE = 20


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[SessionSpec]:
    worktree = tmp_path / "worktree"
    worktree.mkdir()
    yield (
        made := SessionSpec(
            session=f"test-{uuid.uuid4().hex}",
            role="implementation-specialist",
            task_id="api/login",
            task_file="tasks/login.md",
            branch="feat/api/login",
            slot=3,
            cwd=worktree,
            environment={"PATH": os.environ["PATH"]},
            log=tmp_path / "logs" / "session.log",
            prompt_directory=tmp_path / "prompts",
            turn_seconds=PATIENCE,
            stop_seconds=2,
        )
    )
    left = find(Claim((), made.session, is_watched=False))
    for row in left:
        os.kill(row.pid, signal.SIGKILL)
    assert left == []


def open_shell(spec: SessionSpec, script: str) -> Session:
    backend: Backend = CommandBackend(["sh", "-c", script])
    return backend.open(spec)


async def test_the_prompt_is_on_standard_input_and_in_the_prompt_file(spec: SessionSpec) -> None:
    session = CommandBackend(["sh", "-c", 'cat; cat "$1"', "agent", "{prompt_file}"]).open(spec)
    end = await session.prompt("Héllo\n", FIRST)
    assert (end.status, end.answer, end.error, end.timed_out) == (0, "Héllo\nHéllo", "", False)
    assert [path.stat().st_mode & 0o777 for path in spec.prompt_directory.iterdir()] == [0o600]


async def test_the_agent_is_told_where_it_is_and_nothing_else(spec: SessionSpec) -> None:
    code = "import json, os; print(json.dumps([os.getcwd(), dict(os.environ)]))"
    end = await CommandBackend([sys.executable, "-ESc", code]).open(spec).prompt("", FIRST)
    directory, environment = json.loads(end.answer)
    assert directory == str(spec.cwd)
    told = {name: value for name, value in environment.items() if name in TURN_NAMES}
    assert told == {
        "COORDINATOR_TASK_ID": "api/login",
        "COORDINATOR_TASK_FILE": "tasks/login.md",
        "COORDINATOR_BRANCH": "feat/api/login",
        "COORDINATOR_WORKTREE": str(spec.cwd),
        "COORDINATOR_ROLE": "implementation-specialist",
        "COORDINATOR_ATTEMPT": "2",
        "COORDINATOR_TURN": "1",
        "COORDINATOR_SESSION": spec.session,
        "COORDINATOR_TARGET": "abc123",
        "COORDINATOR_SLOT": "3",
    }
    assert environment.keys() - told.keys() <= {"PATH", "LC_CTYPE"}  # Python itself may set LC_CTYPE.


async def test_placeholders_are_filled_in_wrapper_and_command_and_other_braces_stay(spec: SessionSpec) -> None:
    backend = CommandBackend(["printf", "%s ", "{role}", "{session}", "{other}", '{"a": {}}'], ["env", "-u", "{role}"])
    end = await backend.open(spec).prompt("", FIRST)
    assert end.answer == f'{spec.role} {spec.session} {{other}} {{"a": {{}}}} '


@given(st.text(), st.text())
def test_what_is_filled_in_is_not_filled_in_again(role: str, session: str) -> None:
    names = {"role": role, "session": session, "prompt_file": "{role}"}
    assert fill(["{prompt_file}-{session}"], names) == [f"{{role}}-{session}"]


async def test_each_turn_is_a_process_of_its_own_and_its_answer_is_its_own(spec: SessionSpec) -> None:
    groups: list[GroupId] = []
    session = open_shell(replace(spec, on_start=groups.append), 'echo "turn $COORDINATOR_TURN: $(cat)"')
    assert (await session.prompt("one", FIRST)).answer == "turn 1: one"
    assert (await session.prompt("two", replace(FIRST, turn=2))).answer == "turn 2: two"
    assert spec.log.read_text() == "turn 1: one\nturn 2: two\n"
    assert len({group.pid for group in groups}) == 2
    await session.close()
    await session.close()


async def test_an_agent_that_exits_with_a_status_says_so(spec: SessionSpec) -> None:
    end = await open_shell(spec, "echo sorry; exit 3").prompt("", FIRST)
    assert (end.status, end.answer, end.error) == (3, "sorry", "`sh` exited with 3 (sorry)")


async def test_an_agent_that_a_signal_ends_says_which(spec: SessionSpec) -> None:
    end = await open_shell(spec, "kill -SEGV $$").prompt("", FIRST)
    assert (end.status, end.error) == (-signal.SIGSEGV, "`sh` was ended by SIGSEGV")


async def test_an_agent_that_exits_at_once_without_reading_a_large_prompt_ends_its_turn(spec: SessionSpec) -> None:
    end = await open_shell(spec, "exit 0").prompt("x" * 1_000_000, FIRST)
    assert (end.status, end.answer, end.error) == (0, "", "")


async def test_an_agent_that_takes_too_long_is_ended_even_if_it_ignores_term(spec: SessionSpec) -> None:
    script = "trap '' TERM; echo thinking; while :; do sleep 1000; done"
    end = await open_shell(replace(spec, turn_seconds=1, stop_seconds=0.2), script).prompt("", FIRST)
    assert (end.timed_out, end.status, end.answer) == (True, -signal.SIGKILL, "thinking")
    assert end.error == "`sh` was ended because the turn took longer than 1 seconds"


async def test_an_agent_that_closes_its_output_and_leaves_a_daemon_ends_its_turn(spec: SessionSpec) -> None:
    end = await open_shell(spec, "echo done; setsid sleep 1000 & exec >&- 2>&-; exit 0").prompt("", FIRST)
    assert (end.status, end.answer) == (0, "done")


async def test_what_a_daemon_says_when_it_is_ended_is_not_the_answer(spec: SessionSpec) -> None:
    daemon = "(trap 'echo terminated; exit' TERM; echo up > ready; sleep 1000 & wait)"
    end = await open_shell(spec, f"mkfifo ready; {daemon} & read x < ready; echo Verdict: approved").prompt("", FIRST)
    assert end.answer == "Verdict: approved"
    assert spec.log.read_text() == "Verdict: approved\nterminated\n"


async def test_a_flood_of_output_costs_neither_memory_nor_a_long_answer(spec: SessionSpec) -> None:
    session = open_shell(spec, "head -c 50000000 /dev/zero | tr '\\0' 'x'; echo; echo Verdict: approved")
    tracemalloc.start()
    try:
        end = await session.prompt("", FIRST)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert spec.log.stat().st_size > 50_000_000
    spec.log.unlink()
    assert len(end.answer) <= ANSWER_BYTES
    assert end.answer.splitlines()[-1] == "Verdict: approved"
    assert peak_bytes < 5_000_000


async def test_cancelling_a_turn_ends_all_that_it_started(spec: SessionSpec) -> None:
    events = spec.cwd / "events"
    os.mkfifo(events)
    session = open_shell(spec, "setsid sleep 1000 & echo ready > events; sleep 1000")
    running = asyncio.ensure_future(session.prompt("", FIRST))
    await asyncio.wait_for(asyncio.to_thread(events.read_text), PATIENCE)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert find(Claim((), spec.session, is_watched=False)) == []


async def test_closing_a_session_ends_the_turn_that_still_runs(spec: SessionSpec) -> None:
    events = spec.cwd / "events"
    os.mkfifo(events)
    session = open_shell(spec, "echo ready > events; sleep 1000")
    running = asyncio.ensure_future(session.prompt("", FIRST))
    await asyncio.wait_for(asyncio.to_thread(events.read_text), PATIENCE)
    await session.close()
    assert (await running).status == -signal.SIGTERM


async def test_an_agent_that_cannot_be_started_is_an_error_with_what_to_do(spec: SessionSpec) -> None:
    (spec.cwd / "agent").write_text("#!/bin/sh\n")
    with pytest.raises(AgentError, match="chmod"):
        await CommandBackend(["./agent"]).open(spec).prompt("", FIRST)
    with pytest.raises(AgentError, match="was not found on PATH"):
        await CommandBackend(["no-such-agent"]).open(spec).prompt("", FIRST)


def test_a_missing_program_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "agent").touch(mode=0o755)
    (tmp_path / "plain").touch(mode=0o644)
    assert check_command(["agent", "--flag"], str(tmp_path)) is None
    assert check_command([str(tmp_path / "agent")], "") is None
    assert check_command(["./agent"], "/nowhere") is None
    assert "`plain` is not on PATH" in (check_command(["plain"], str(tmp_path)) or "")
    assert "is not an executable file" in (check_command([str(tmp_path / "plain")], "") or "")
    assert f"write `{Path.home()}/agent`" in (check_command(["~/agent"], str(tmp_path)) or "")
    assert "agent.command is empty" in (check_command([], "/bin") or "")
