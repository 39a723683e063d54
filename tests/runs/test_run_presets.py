"""Whole runs with the real Claude Code and Codex and a scripted model, without Prefect."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from checker import Meant, check, snapshot_user_state
from e2e.opencode_harness import commit, node
from runs.program_harness import ProgramHarness, opening_program

from tasks_lib.reporting.run_report import ExitCode

pytestmark = pytest.mark.xdist_group("presets")
BOTH = ("claude", "codex")


@pytest.fixture(params=BOTH)
def known(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProgramHarness]:
    with opening_program(tmp_path, request.param, monkeypatch) as harness:
        yield harness


async def test_a_task_lands_with_a_preset_and_its_answer_is_the_summary(known: ProgramHarness) -> None:
    known.make({"a": node(commit("a"), {"say": "Wrote a.txt.\n\nIt has one line."})})
    before = snapshot_user_state(known.top)
    worked = await known.work()
    assert (worked.code, worked.retries) == (ExitCode.COMPLETED, [])
    assert check(known.top, before=before, meant=Meant({"a": "completed"})) == []
    assert "## Summary\n\nWrote a.txt.\n\nIt has one line." in known.show("tasks/a.md")
    log = known.read_log("a")
    assert "git add -A && git commit" in log
    assert log.rstrip().endswith("It has one line.")
    assert worked.view.tokens >= 240
    assert "tokens" in known.trailer("Spent")
