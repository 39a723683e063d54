"""Runs with the real Claude Code and Codex as a person starts them: killed, and looked at and told from a second terminal."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from checker import Meant, check, snapshot_user_state
from e2e.conftest import RUN_SECONDS, Coordinator
from e2e.opencode_harness import bash, commit, node, read_prompts
from running_processes import list_running
from runs.program_harness import ProgramHarness, opening_program

from tasks_lib.process.marked_processes import find_marked
from tasks_lib.project.child_environment import REPOSITORY_MARKER

pytestmark = pytest.mark.xdist_group("presets")
HALTED = (bash("echo half > half.txt"), {"hang": True, "times": 1})


@pytest.fixture(params=("claude", "codex"))
def known(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProgramHarness]:
    with opening_program(tmp_path, request.param, monkeypatch) as harness:
        yield harness


def wait_for_requests(known: ProgramHarness, number: int) -> None:
    known.model.wait_for(lambda _: len(known.requests("a")) >= number)


def test_a_killed_run_leaves_no_program_and_its_turn_continues_in_the_same_conversation(
    coordinator: Coordinator, known: ProgramHarness
) -> None:
    known.make({"a": node(*HALTED, commit("a"), {"say": "Done."})})
    before = snapshot_user_state(known.top)
    process = coordinator.start("run", known.top)
    wait_for_requests(known, 2)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=RUN_SECONDS)
    left = [psutil.Process(one.pid) for one in find_marked(REPOSITORY_MARKER, str((known.top / ".git").resolve()))]
    assert left
    known.model.release()

    code, output = coordinator.run("run", known.top)

    assert code == 0, output
    assert list_running(left) == []
    assert check(known.top, before=before, meant=Meant({"a": "completed"})) == []
    assert known.trailer("Attempt") == "1"
    assert len(known.find_conversations()) == 1
    assert len(read_prompts(known.requests("a")[-1])) >= 2


def test_a_session_is_looked_at_and_told_from_a_second_terminal(
    coordinator: Coordinator, known: ProgramHarness
) -> None:
    """A message waits for the next turn; the first one ends here without a commit."""
    known.make({"a": node(*HALTED, {"say": "Half."}, commit("a"), {"say": "Done."})})
    process = coordinator.start("run", known.top)
    wait_for_requests(known, 2)
    code, shown = coordinator.run("status", known.top)
    assert (code, "session" in shown) == (0, True), shown
    code, attach = coordinator.run("attach", "a", "--repo", known.top)
    assert code == 0, attach
    assert ("claude --resume " if known.preset == "claude" else "codex resume ") in attach
    code, said = coordinator.run("message", "a", "Use four spaces.", "--repo", known.top)
    assert code == 0, said
    assert "with its next prompt" in said
    known.model.release()
    output, _ = process.communicate(timeout=RUN_SECONDS)
    assert process.wait() == 0, output
    first, second = read_prompts(known.requests("a")[-1])[:2]
    assert "Use four spaces." not in first
    assert "Use four spaces." in second
