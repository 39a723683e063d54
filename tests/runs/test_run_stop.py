"""Stopping a run, killing one, and how the next run recovers."""

import asyncio
import os
import subprocess
import threading
from pathlib import Path

import psutil
from run_harness import During, RunHarness

from tasks_lib.engine.run_lifecycle import OpenRun, open_run
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.runner import Git
from tasks_lib.git.session_record import write_record
from tasks_lib.model import Stage
from tasks_lib.node.attempt_opening import open_attempt
from tasks_lib.node.landing_report import describe_landing
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.settings.spoke_schema import Place

LONG = "echo half > half.txt; commit 'wip: half'; echo more > more.txt; sleep 1000 & echo $! > {pids}; tell begun; wait"


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def stop_at(harness: RunHarness, signal: str) -> During:
    async def stop(opened: OpenRun) -> None:
        await harness.signals[signal].wait()
        opened.run.stopping.request()

    return stop


async def test_stop_ends_sessions_and_keeps_work_and_the_next_run_resumes_the_attempt(harness: RunHarness) -> None:
    pids = harness.place / "pids"
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, LONG.format(pids=pids), signals=["begun"])
    worked = await harness.work(during=stop_at(harness, "begun"))
    assert worked.names == {"a": "Aborted"}
    assert worked.code is ExitCode.INTERRUPTED
    assert not is_running(int(pids.read_text()))
    assert harness.show("half.txt", "feat/a") == "half\n"
    assert (harness.top / ".worktrees/feat/a/more.txt").read_text() == "more\n"
    before = harness.journal.variables("a-1-1")
    harness.write_agent("work")
    again = await harness.work()
    assert again.names == {"a": "Merged", "b": "Merged"}
    assert harness.show("more.txt") == "more\n"
    assert harness.journal.turns() == ["a-1-1", "b-1-1"]
    after = harness.journal.variables("a-1-1")
    for name in ("ATTEMPT", "TURN", "WORKTREE", "SESSION"):
        assert after[f"COORDINATOR_{name}"] == before[f"COORDINATOR_{name}"]
    assert "The worktree contains the work of an earlier session" in harness.journal.read("a-1-1")
    assert harness.trailer("Attempt", "main^") == "1"
    assert harness.leftovers() == []


async def test_stop_during_verify_aborts_and_the_next_run_lands_without_a_session(harness: RunHarness) -> None:
    signals = harness.place / "signals"
    verify = f"test -f {harness.place}/open || ! test -f a.txt || {{ echo > {signals}/verifying; sleep 1000; }}"
    harness.make({"a": {}}, verify=[verify], signals=["verifying"])
    assert (await harness.work(during=stop_at(harness, "verifying"))).names == {"a": "Aborted"}
    (harness.place / "open").touch()
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1"]


class SlowHead(Head):
    """A head that moves only when the test lets it."""

    def __init__(self, git: Git, target: str) -> None:
        super().__init__(git, target)
        self.is_moving = threading.Event()
        self.may_move = threading.Event()

    def advance(self, old: str, new: str) -> bool:
        self.is_moving.set()
        self.may_move.wait(10)
        return super().advance(old, new)


async def test_stop_while_the_head_moves_reports_what_landed(harness: RunHarness) -> None:
    harness.make({"a": {}}, "tell begun; await go; work", signals=["begun", "go"])

    async def stop(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        head = SlowHead(opened.run.git.repository.git, "main")
        opened.run.git.head = head
        harness.signals["go"].send()
        await asyncio.to_thread(head.is_moving.wait, 10)
        opened.run.stopping.request()
        await asyncio.sleep(0)
        head.may_move.set()

    worked = await harness.work(during=stop)
    assert worked.names == {"a": "Merged"}
    assert harness.leftovers() == []


async def test_stop_during_setup_aborts_without_costing_an_attempt(harness: RunHarness) -> None:
    signals = harness.place / "signals"
    setup = f"test -f {harness.place}/open || {{ echo > {signals}/setup; sleep 1000; }}"
    harness.make({"a": {}}, setup=[setup], signals=["setup"])
    assert (await harness.work(during=stop_at(harness, "setup"))).names == {"a": "Aborted"}
    (harness.place / "open").touch()
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1"]


async def test_cancelled_run_keeps_work_and_leaves_no_process(harness: RunHarness) -> None:
    pids = harness.place / "pids"
    harness.make({"a": {}}, LONG.format(pids=pids), signals=["begun"])
    job = asyncio.ensure_future(harness.work())
    await harness.signals["begun"].wait()
    job.cancel()
    await asyncio.wait([job])
    assert job.cancelled()
    assert not is_running(int(pids.read_text()))
    harness.write_agent("work")
    assert (await harness.work()).names == {"a": "Merged"}


async def test_what_a_killed_run_left_of_a_landed_node_is_put_away_by_the_next(harness: RunHarness) -> None:
    """The run was killed right after the head moved: worktree, record and branch still exist."""
    harness.make({"a": {}})
    project = load_project(harness.top, {})
    async with open_run(project, "killed", 1) as opened:
        lease = opened.run.agents.places.find_slots(Place.LOCAL).lease(0)
        work = await open_attempt(opened.run, opened.merge_queue, opened.run.nodes.graph.tasks["a"], lease)
        path = work.worktree.path
        (path / "a.txt").write_text("a\n")
        Git(path).run("add", "a.txt")
        Git(path).run("commit", "-qm", "feat(a): write")
        (path / "late.txt").write_text("late\n")
        commit = Git(path).text("rev-parse", "HEAD")
        work.note(acceptance=work.record.acceptance.accept(commit, "", None))
        work.enter(Stage.VERIFY)
        landing = await describe_landing(work, commit, "")
        await opened.merge_queue.land(landing, 0)
        assert read_files(harness) == ["a.txt", "late.txt"]
    assert harness.has("a.txt")
    worked = await harness.work()
    assert worked.outcomes == {}
    assert worked.code is ExitCode.COMPLETED
    (kept,) = harness.leftovers()
    assert kept.startswith("refs/coordinator/kept/a/")
    assert harness.show("late.txt", kept) == "late\n"


def read_files(harness: RunHarness) -> list[str]:
    return sorted(path.name for path in (harness.top / ".worktrees/feat/a").glob("*.txt"))


async def test_branch_of_a_landed_node_without_a_worktree_is_deleted_by_the_next_run(harness: RunHarness) -> None:
    harness.make({"a": {}})
    await harness.work()
    harness.git.run("branch", "feat/a", "main^2")
    await harness.work()
    assert harness.leftovers() == []


async def test_branch_of_a_landed_node_that_moved_on_is_kept(harness: RunHarness) -> None:
    harness.make({"a": {}})
    await harness.work()
    harness.git.run("branch", "feat/a", harness.git.text("commit-tree", "-p", "main", "-m", "Mine", "main^{tree}"))
    await harness.work()
    assert harness.leftovers() == ["refs/heads/feat/a"]


async def test_process_that_an_earlier_run_left_is_ended_before_its_node_goes_on(harness: RunHarness) -> None:
    harness.make({"a": {}})
    environment = {**os.environ, "COORDINATOR_REPOSITORY": str((harness.top / ".git").resolve())}
    stray = subprocess.Popen(["sleep", "1000"], env=environment)  # noqa: ASYNC220 - It is only started here.
    worked = await harness.work()
    assert not is_running(stray.pid)
    assert "Ended 1 processes that an earlier run had left running." in worked.view.messages


async def test_kill_between_the_blocker_and_its_record_counts_as_blocked(harness: RunHarness) -> None:
    harness.make({"a": {}}, "exit 1", retry={"attempts": 1})
    await harness.work()
    worktree = Git(harness.top / ".worktrees/feat/a")
    record = harness.record("feat/a")
    write_record(Path(worktree.text("rev-parse", "--absolute-git-dir")), record.change(stage=Stage.SESSION))
    harness.set_status("resolve-a-1", "completed")
    harness.write_agent("work")
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.trailer("Attempt") == "2"


async def test_branch_that_a_person_makes_after_its_node_landed_stays(harness: RunHarness) -> None:
    harness.make({"a": {}, "r": {"level": "review"}}, "[ $id = r ] && echo 'Verdict: approved' || work")
    assert (await harness.work()).names == {"a": "Merged", "r": "Checked"}
    for branch, start in (("feat/a", "main"), ("feat/r", "main~2")):
        harness.git.run("branch", branch, start)
    await harness.work()
    assert harness.leftovers() == ["refs/heads/feat/a", "refs/heads/feat/r"]
    harness.git.run("branch", "-D", "feat/a", "feat/r")
    # As a kill leaves the branch of a node without commits: created by id, on the head as it was then.
    harness.git.run("branch", "feat/r", harness.git.text("log", "--format=%P", "--grep=^Check ", "main"))
    await harness.work()
    assert harness.leftovers() == []
