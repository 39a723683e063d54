"""Whether a run starts, is in progress, has ended or was killed: what others are told between two of its writes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_harness import RunHarness, open_harness

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import RunLock, announcing_start, is_starting
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.last_run import read_last_run
from tasks_lib.runtime.status_board import VIEW_NAME, Board, RunView, now_text, read_view


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[RunHarness]:
    with open_harness(tmp_path) as made:
        yield made


@pytest.mark.parametrize("agent", ["work", "exit 1"])
async def test_end_of_a_run_is_recorded_once_its_lock_is_free(harness: RunHarness, agent: str) -> None:
    harness.make({"a": {}}, agent)
    state = Repository.open(harness.top).state_dir
    seen: list[bool] = []

    async def look(opened: OpenRun) -> None:
        opened.run.board.write()
        seen.append(read_last_run(state).is_alive)

    result = await harness.work(during=look)
    last = read_last_run(state)
    assert seen == [True]
    assert last.view
    assert (last.was_killed, last.is_alive, last.view.exit_code) == (False, False, int(result.code))
    assert result.code is (ExitCode.COMPLETED if agent == "work" else ExitCode.BLOCKED)


async def test_run_that_breaks_off_has_no_end(harness: RunHarness) -> None:
    harness.make({"a": {}})

    async def crash(opened: OpenRun) -> None:
        opened.run.board.write()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await harness.work(during=crash)
    assert read_last_run(Repository.open(harness.top).state_dir).was_killed


def test_run_that_reports_its_end_late_does_not_overwrite_the_next_run(tmp_path: Path) -> None:
    earlier, later = (Board(RunView(run, "main", now_text()), tmp_path / VIEW_NAME) for run in ("r1", "r2"))
    earlier.close(0, is_reported=False)
    later.write()
    earlier.close(0)
    view = read_view(tmp_path / VIEW_NAME)
    assert view
    assert view.run == "r2"


def test_run_that_starts_is_told_of_until_it_holds_the_lock(tmp_path: Path) -> None:
    Board(RunView("r1", "main", now_text(), os.getpid()), tmp_path / VIEW_NAME).write()
    with announcing_start(tmp_path):
        with announcing_start(tmp_path):  # Two may start at once; one of them will be refused.
            pass
        starts = read_last_run(tmp_path)
        assert (starts.is_alive, starts.is_starting, starts.holder) == (True, True, None)
        with RunLock(tmp_path, "r2"):
            begun = read_last_run(tmp_path)
            assert (begun.is_alive, begun.is_starting, begun.view) == (True, False, None)
    assert not is_starting(tmp_path)
    assert read_last_run(tmp_path).was_killed
