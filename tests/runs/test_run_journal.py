"""The journal of a run: what is written down, what is left of it after a kill, and the report made of what is there."""

import os
from collections import Counter
from pathlib import Path

import pytest
from run_harness import RunHarness, reach

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.project.after_action import gather
from tasks_lib.project.loading import load_project
from tasks_lib.project.run_journals import JOURNALS, SUFFIX, list_journals, read_journal
from tasks_lib.reporting.after_action import AfterActionReport
from tasks_lib.reporting.journal_events import Cause
from tasks_lib.runtime.run_journal import KEPT_JOURNALS, RunJournal
from tasks_lib.runtime.status_board import VIEW_NAME, Board, RunView, now_text

CONFLICT = 'echo "$id $turn" > same.txt; if [ $turn != 1 ]; then git merge -q -X ours $COORDINATOR_TARGET; fi; commit x'


def write_report(harness: RunHarness, run: str = "", milestone: str = "") -> AfterActionReport:
    return gather(load_project(harness.top, {}), run, milestone)


def find_folder(harness: RunHarness) -> Path:
    return harness.top / ".git" / "coordinator" / JOURNALS


async def test_turns_waits_conflicts_and_ends_of_a_real_run_are_in_its_report(harness: RunHarness) -> None:
    waits = "if [ $id = a ]; then tell started; await go; fi; if [ $id = b ]; then await begin; fi"
    agent = f"{waits}; if [ $id = c ]; then work; else {CONFLICT}; fi"
    tasks = {"a": {"scope": "single"}, "b": {}, "c": {"depends_on": ["a", "b"], "tags": ["late"]}}
    harness.make(tasks, agent, signals=("started", "begin", "go"), verify=["true"])

    async def release(opened: OpenRun) -> None:
        await harness.signals["started"].wait()
        harness.signals["begin"].send()
        await reach(opened, "b: Merged")
        harness.signals["go"].send(2)

    worked = await harness.work(max_sessions=2, during=release)
    assert worked.names == {"a": "Merged", "b": "Merged", "c": "Merged"}
    made = write_report(harness)
    figures = made.figures
    assert figures.landed == {
        one: harness.git.text("log", "--format=%H", f"--grep=Task: {one}$", "main") for one in "abc"
    }
    assert figures.spending.total.turns == len(harness.journal.turns()) == 4
    assert figures.parallelism.peak == 2
    assert [(one.path, one.conflicts) for one in figures.trouble.files] == [("same.txt", 1)]
    assert [(one.node, one.about, one.ended) for one in figures.trouble.refusals] == [("a", "conflict", "it landed")]
    assert abs(sum(figures.makespan.by_cause.values()) - figures.makespan.seconds) < 1e-6
    assert figures.makespan.path == ("a", "c")
    assert figures.lines["c"] == 1
    assert made.missing == (f"Run {made.runs[0]} was never judged: it was killed, or is still in progress.",)
    late = write_report(harness, milestone="late")
    assert (late.figures.landed.keys(), late.figures.spending.total.turns) == ({"c"}, 1)


async def test_reviews_and_failed_attempts_are_in_the_report(harness: RunHarness) -> None:
    agent = """
if [ $role = code-reviewer ]; then echo "- [blocking] a.txt:1: too short"; echo "Verdict: changes requested"; exit; fi
if [ $attempt = 1 ]; then exit 3; fi
echo "$id $turn" > a.txt; commit x
"""
    harness.make({"a": {"risk": "high"}}, agent, review={"max_rounds": 1})
    assert (await harness.work()).names == {"a": "Blocked"}
    trouble = write_report(harness).figures.trouble
    assert [one.what for one in trouble.reviews] == ["a.txt:1: too short"] * 2
    assert [one.about for one in trouble.refusals] == ["review"] * 2
    assert len(trouble.retries) == 1
    assert [(one.node, one.ended) for one in trouble.blockers] == [("a", "still open")]


async def test_an_abort_by_a_person_and_a_run_before_are_in_the_report(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, "if [ $id = b ]; then tell started; await go; fi; work", signals=("started", "go"))

    async def abort(opened: OpenRun) -> None:
        await harness.signals["started"].wait()
        await opened.run.requests.abort("b")

    assert (await harness.work(during=abort)).names == {"a": "Merged", "b": "Aborted"}
    assert [one.node for one in write_report(harness).figures.trouble.unfinished] == ["b"]
    harness.write_agent("work")
    await harness.work()
    made = write_report(harness)
    assert made.earlier[0].landed == 1
    first = write_report(harness, made.earlier[0].run)
    assert (first.name, first.earlier, set(first.figures.landed)) == (made.earlier[0].run, (), {"a"})


async def test_commits_of_people_count_from_the_runs_start_and_not_from_its_second(harness: RunHarness) -> None:
    """The last commit before a run is often made in the second in which it begins, and git knows no parts of seconds."""
    harness.make({"a": {}}, "tell started; await go; work", signals=("started", "go"))

    async def commit(opened: OpenRun) -> None:
        await harness.signals["started"].wait()
        harness.commit("During the run", {"mine.txt": "mine\n"})
        harness.signals["go"].send()

    assert (await harness.work(during=commit)).names == {"a": "Merged"}
    touches = write_report(harness).figures.trouble.touches
    assert [one.what.partition(": ")[2] for one in touches] == ["During the run"]


async def test_a_deleted_journal_is_said_and_git_is_reported(harness: RunHarness) -> None:
    harness.make({"a": {}})
    run = (await harness.work()).view.run
    (find_folder(harness) / f"{run}{SUFFIX}").unlink()
    made = write_report(harness, run[:7])
    assert set(made.figures.landed) == {"a"}
    assert "is gone" in made.missing[0]
    with pytest.raises(InputError, match="no run of this repository is recorded"):
        write_report(harness)


async def test_what_is_not_there_is_an_error_that_names_what_is(harness: RunHarness) -> None:
    harness.make({"a": {"tags": ["beta"]}, "phase-2/b": {"milestone": "1.0"}})
    run = (await harness.work()).view.run
    with pytest.raises(InputError, match=f'no run "{run}x".*{run}'):
        write_report(harness, f"{run}x")
    with pytest.raises(InputError, match="leave out the run"):
        write_report(harness, run, "beta")
    with pytest.raises(InputError, match=r'"alpha".*: 1\.0, beta, phase-2'):
        write_report(harness, milestone="alpha")
    assert set(write_report(harness, milestone="1.0").figures.landed) == {"phase-2/b"}
    assert set(write_report(harness, milestone="phase-2").figures.landed) == {"phase-2/b"}


def test_a_line_that_a_kill_cut_off_costs_that_line_alone(tmp_path: Path) -> None:
    open_journal(tmp_path, "r-1").note("node.waited", "a", cause=Cause.SLOT, seconds=2.0)
    path = tmp_path / JOURNALS / f"r-1{SUFFIX}"
    os.truncate(path, path.stat().st_size - 5)
    open_journal(tmp_path, "r-1").note("node.waited", "b", cause=Cause.SLOT, seconds=3.0)
    journal = read_journal(tmp_path, "r-1")
    assert journal is not None
    assert journal.unread == 1
    assert Counter(one.event for one in journal.entries) == {"begun": 2, "node.waited": 1}


def test_a_journal_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / JOURNALS).write_text("in the way")
    said: list[str] = []
    board = Board(RunView("r-1", "main", now_text()), tmp_path / VIEW_NAME)
    board.listen(lambda node, line: said.append(line))
    journal = open_journal(tmp_path, "r-1", board)
    journal.note("node.waited", "a", cause=Cause.SLOT, seconds=2.0)
    assert [line for line in said if "journal of this run is incomplete" in line] == said
    assert len(said) == 1


def test_only_the_newest_journals_are_kept(tmp_path: Path) -> None:
    for number in range(KEPT_JOURNALS + 3):
        open_journal(tmp_path, f"r-{number}")
        os.utime(tmp_path / JOURNALS / f"r-{number}{SUFFIX}", (number, number))
    assert list_journals(tmp_path) == [f"r-{number}" for number in range(KEPT_JOURNALS + 2, 2, -1)]


def open_journal(place: Path, run: str, board: Board | None = None) -> RunJournal:
    journal = RunJournal()
    journal.open(place, board or Board(RunView(run, "main", now_text()), place / VIEW_NAME), 4, "0" * 40)
    return journal
