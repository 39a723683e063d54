"""Stopping a run, killing one, and how the next run recovers."""

import asyncio
import os
import subprocess
import threading
from pathlib import Path

import psutil
from run_harness import During, Ground

from tasks_lib.engine.run_lifecycle import OpenRun, open_run
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.runner import Git
from tasks_lib.git.session_record import write_record
from tasks_lib.model import Stage
from tasks_lib.node import attempt
from tasks_lib.node.attempt_opening import open_attempt
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode

LONG = "echo half > half.txt; commit 'wip: half'; echo more > more.txt; sleep 1000 & echo $! > {pids}; tell begun; wait"


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def stop_at(ground: Ground, signal: str) -> During:
    async def stop(opened: OpenRun) -> None:
        await ground.signals[signal].wait()
        opened.run.stopping.request()

    return stop


async def test_stop_ends_sessions_and_keeps_work_and_the_next_run_resumes_the_attempt(ground: Ground) -> None:
    pids = ground.place / "pids"
    ground.make({"a": {}, "b": {"depends_on": ["a"]}}, LONG.format(pids=pids), signals=["begun"])
    worked = await ground.work(during=stop_at(ground, "begun"))
    assert worked.names == {"a": "Aborted"}
    assert worked.code is ExitCode.INTERRUPTED
    assert not is_running(int(pids.read_text()))
    assert ground.show("half.txt", "feat/a") == "half\n"
    assert (ground.top / ".worktrees/feat/a/more.txt").read_text() == "more\n"
    before = ground.variables("a-1-1")
    ground.write_agent("work")
    again = await ground.work()
    assert again.names == {"a": "Merged", "b": "Merged"}
    assert ground.show("more.txt") == "more\n"
    assert ground.turns() == ["a-1-1", "b-1-1"]
    after = ground.variables("a-1-1")
    for name in ("ATTEMPT", "TURN", "WORKTREE", "SESSION"):
        assert after[f"COORDINATOR_{name}"] == before[f"COORDINATOR_{name}"]
    assert "The worktree contains the work of an earlier session" in ground.turn("a-1-1")
    assert ground.trailer("Attempt", "main^") == "1"
    assert ground.leftovers() == []


async def test_stop_during_verify_aborts_and_the_next_run_lands_without_a_session(ground: Ground) -> None:
    signals = ground.place / "signals"
    verify = f"test -f {ground.place}/open || {{ echo > {signals}/verifying; sleep 1000; }}"
    ground.make({"a": {}}, verify=[verify], signals=["verifying"])
    assert (await ground.work(during=stop_at(ground, "verifying"))).names == {"a": "Aborted"}
    (ground.place / "open").touch()
    assert (await ground.work()).names == {"a": "Merged"}
    assert ground.turns() == ["a-1-1"]


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


async def test_stop_while_the_head_moves_reports_what_landed(ground: Ground) -> None:
    ground.make({"a": {}}, "tell begun; await go; work", signals=["begun", "go"])

    async def stop(opened: OpenRun) -> None:
        await ground.signals["begun"].wait()
        head = SlowHead(opened.run.git.repository.git, "main")
        opened.run.git.head = head
        ground.signals["go"].send()
        await asyncio.to_thread(head.is_moving.wait, 10)
        opened.run.stopping.request()
        await asyncio.sleep(0)
        head.may_move.set()

    worked = await ground.work(during=stop)
    assert worked.names == {"a": "Merged"}
    assert ground.leftovers() == []


async def test_stop_during_setup_aborts_without_costing_an_attempt(ground: Ground) -> None:
    signals = ground.place / "signals"
    setup = f"test -f {ground.place}/open || {{ echo > {signals}/setup; sleep 1000; }}"
    ground.make({"a": {}}, setup=[setup], signals=["setup"])
    assert (await ground.work(during=stop_at(ground, "setup"))).names == {"a": "Aborted"}
    (ground.place / "open").touch()
    assert (await ground.work()).names == {"a": "Merged"}
    assert ground.turns() == ["a-1-1"]


async def test_cancelled_run_keeps_work_and_leaves_no_process(ground: Ground) -> None:
    pids = ground.place / "pids"
    ground.make({"a": {}}, LONG.format(pids=pids), signals=["begun"])
    job = asyncio.ensure_future(ground.work())
    await ground.signals["begun"].wait()
    job.cancel()
    await asyncio.wait([job])
    assert job.cancelled()
    assert not is_running(int(pids.read_text()))
    ground.write_agent("work")
    assert (await ground.work()).names == {"a": "Merged"}


async def test_what_a_killed_run_left_of_a_landed_node_is_put_away_by_the_next(ground: Ground) -> None:
    """The run was killed right after the head moved: worktree, record and branch still exist."""
    ground.make({"a": {}})
    project = load_project(ground.top, {})
    async with open_run(project, "killed", 1) as opened:
        lease = opened.run.agents.slots.lease(0)
        work = await open_attempt(opened.run, opened.merge_queue, opened.run.nodes.graph.tasks["a"], lease)
        path = work.worktree.path
        (path / "a.txt").write_text("a\n")
        Git(path).run("add", "a.txt")
        Git(path).run("commit", "-qm", "feat(a): write")
        (path / "late.txt").write_text("late\n")
        commit = Git(path).text("rev-parse", "HEAD")
        work.note(acceptance=work.record.acceptance.accept(commit, "", None))
        work.enter(Stage.VERIFY)
        landing = await attempt._describe_landing(work, commit, "")  # pyright: ignore[reportPrivateUsage]
        await opened.merge_queue.land(landing, 0)
        assert read_files(ground) == ["a.txt", "late.txt"]
    assert ground.has("a.txt")
    worked = await ground.work()
    assert worked.outcomes == {}
    assert worked.code is ExitCode.COMPLETED
    (kept,) = ground.leftovers()
    assert kept.startswith("refs/coordinator/kept/a/")
    assert ground.show("late.txt", kept) == "late\n"


def read_files(ground: Ground) -> list[str]:
    return sorted(path.name for path in (ground.top / ".worktrees/feat/a").glob("*.txt"))


async def test_branch_of_a_landed_node_without_a_worktree_is_deleted_by_the_next_run(ground: Ground) -> None:
    ground.make({"a": {}})
    await ground.work()
    ground.git.run("branch", "feat/a", "main^2")
    await ground.work()
    assert ground.leftovers() == []


async def test_branch_of_a_landed_node_that_moved_on_is_kept(ground: Ground) -> None:
    ground.make({"a": {}})
    await ground.work()
    ground.git.run("branch", "feat/a", ground.git.text("commit-tree", "-p", "main", "-m", "Mine", "main^{tree}"))
    await ground.work()
    assert ground.leftovers() == ["refs/heads/feat/a"]


async def test_process_that_an_earlier_run_left_is_ended_before_its_node_goes_on(ground: Ground) -> None:
    ground.make({"a": {}})
    environment = {**os.environ, "COORDINATOR_REPOSITORY": str((ground.top / ".git").resolve())}
    stray = subprocess.Popen(["sleep", "1000"], env=environment)  # noqa: ASYNC220 - It is only started here.
    worked = await ground.work()
    assert not is_running(stray.pid)
    assert "Ended 1 processes that an earlier run had left running." in worked.view.messages


async def test_kill_between_the_blocker_and_its_record_counts_as_blocked(ground: Ground) -> None:
    ground.make({"a": {}}, "exit 1", retry={"attempts": 1})
    await ground.work()
    worktree = Git(ground.top / ".worktrees/feat/a")
    record = ground.record("feat/a")
    write_record(Path(worktree.text("rev-parse", "--absolute-git-dir")), record.change(stage=Stage.SESSION))
    ground.set_status("resolve-a-1", "completed")
    ground.write_agent("work")
    assert (await ground.work()).names == {"a": "Merged"}
    assert ground.trailer("Attempt") == "2"


async def test_branch_that_a_person_makes_after_its_node_landed_stays(ground: Ground) -> None:
    ground.make({"a": {}, "r": {"level": "review"}}, "[ $id = r ] && echo 'Verdict: approved' || work")
    assert (await ground.work()).names == {"a": "Merged", "r": "Checked"}
    for branch, start in (("feat/a", "main"), ("feat/r", "main~2")):
        ground.git.run("branch", branch, start)
    await ground.work()
    assert ground.leftovers() == ["refs/heads/feat/a", "refs/heads/feat/r"]
    ground.git.run("branch", "-D", "feat/a", "feat/r")
    # As a kill leaves the branch of a node without commits: created by id, on the head as it was then.
    ground.git.run("branch", "feat/r", ground.git.text("log", "--format=%P", "--grep=^Check ", "main"))
    await ground.work()
    assert ground.leftovers() == []
