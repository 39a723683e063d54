"""A session of which nothing is heard any more is lost; until another attempt begins, it may come back."""

import pytest
from run_harness import until
from spoke_harness import HostedRun, SpokeHarness, find, lose

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.git.runner import Git
from tasks_lib.git.session_record import read_record
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.session.remote_conversation import parse_conversation
from tasks_lib.spokes import remote_sessions

PAUSING = "tell begun\nawait go\nwork"


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_sessions, "LOOK_SECONDS", 0.05)


async def lose_at_work(spokes: SpokeHarness) -> HostedRun:
    """Wait until an agent is at work in the only session, and cut off its machine."""
    await spokes.signals["begun"].wait()
    [run] = spokes.link.runs.values()
    await lose(spokes.link, run)
    return run


async def test_work_that_a_lost_session_finished_becomes_the_result_of_its_attempt(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, PAUSING, signals=["begun", "go"])

    async def cut_off(opened: OpenRun) -> None:
        run = await lose_at_work(spokes)
        await until(lambda: waits(opened))
        spokes.signals["go"].send()
        find(spokes.link, run)

    result = await spokes.work(during=cut_off)

    assert result.code is ExitCode.COMPLETED, result.lines
    assert spokes.journal.turns() == ["a-1-1"]
    assert spokes.trailer("Attempt") == "1"
    assert [reason for _, reason in result.retries if "the session on north is lost: nothing was heard of it" in reason]
    assert "a: the session that was lost is back; attempt 1 continues with it." in result.view.messages
    assert (spokes.link.stopped, spokes.list_published(), spokes.list_left("north")) == ([], [], [])
    assert spokes.leftovers() == ["refs/remotes/origin/main"]


def waits(opened: OpenRun) -> bool:
    return any(
        message.startswith("a waits for a spoke: no spoke is online") for message in opened.run.board.view.messages
    )


async def test_a_lost_session_that_still_works_continues_when_it_is_back(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, PAUSING, signals=["begun", "go"])

    async def cut_off(opened: OpenRun) -> None:
        run = await lose_at_work(spokes)
        await until(lambda: waits(opened))
        find(spokes.link, run)
        await run.publish(progress=run.news.progress)
        await until(lambda: any("is back" in message for message in opened.run.board.view.messages))
        spokes.signals["go"].send()

    result = await spokes.work(during=cut_off)

    assert result.code is ExitCode.COMPLETED, result.lines
    assert spokes.journal.turns() == ["a-1-1"]
    assert spokes.trailer("Attempt") == "1"
    assert (spokes.list_published(), spokes.list_left("north")) == ([], [])


async def test_a_report_after_another_attempt_has_begun_is_kept_and_not_merged(two_spokes: SpokeHarness) -> None:
    spokes = two_spokes
    agent = """
if [ "$attempt" = 1 ]; then tell begun; await go; echo late > late.txt; commit late
else tell again; await finish; work; fi"""
    spokes.make({"a": {}}, agent, signals=["begun", "go", "again", "finish"])

    async def cut_off(opened: OpenRun) -> None:
        run = await lose_at_work(spokes)
        await spokes.signals["again"].wait()
        spokes.signals["go"].send()
        copy = Git(spokes.place_of("north"))
        await until(lambda: "late" in copy.text("log", "--format=%s", "-n1", "feat/a"))
        find(spokes.link, run)
        assert run.job
        await run.job
        spokes.signals["finish"].send()

    result = await spokes.work(during=cut_off)

    assert result.code is ExitCode.COMPLETED, result.lines
    assert [run.machine for run in spokes.link.runs.values()] == ["north", "south"]
    assert (spokes.trailer("Attempt"), spokes.has("late.txt")) == ("2", False)
    said = "a: a session on north left work, which is kept at refs/coordinator/kept/a/1."
    assert said in result.view.messages
    assert spokes.git.text("cat-file", "blob", "refs/coordinator/kept/a/1:late.txt") == "late"
    assert (spokes.list_published(), spokes.list_left("north"), spokes.list_left("south")) == ([], [], [])


async def test_what_is_missing_of_a_lost_session_is_named(two_spokes: SpokeHarness) -> None:
    spokes = two_spokes
    agent = """
if [ "$attempt" = 1 ]; then echo 1 > one.txt; git add one.txt; tell begun; sleep 1000; fi
work"""
    spokes.make({"a": {}}, agent, signals=["begun"])

    async def cut_off(opened: OpenRun) -> None:
        await spokes.signals["begun"].wait()
        [run] = spokes.link.runs.values()
        await until(lambda: bool(run.news.progress and run.news.progress.diffstat))
        await lose(spokes.link, run)

    result = await spokes.work(during=cut_off)

    assert result.code is ExitCode.COMPLETED, result.lines
    [(_, reason)] = result.retries
    assert "it had pushed nothing of this turn" in reason
    assert "Missing is what it did after that, which it last described as 1 file +1 -0 in all" in reason
    assert "north keeps it at a ref when it starts again" in reason


async def test_a_lost_session_is_ended_when_its_node_has_no_attempt_left(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, "tell begun; sleep 1000", signals=["begun"], retry={"attempts": 1})

    async def cut_off(opened: OpenRun) -> None:
        await lose_at_work(spokes)

    result = await spokes.work(during=cut_off)

    assert result.names == {"a": "Blocked"}, result.lines
    assert spokes.link.stopped == list(spokes.link.runs)
    assert spokes.list_published() == []
    [run] = spokes.link.runs.values()
    assert run.job
    await run.job
    assert spokes.list_left("north") == [], "it hears of its end when its machine is back"


async def test_a_session_that_was_lost_in_an_earlier_run_is_found_by_the_next_one(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, PAUSING, signals=["begun", "go"])

    async def stop(opened: OpenRun) -> None:
        await lose_at_work(spokes)
        await until(lambda: waits(opened))
        opened.run.stopping.request()

    stopped = await spokes.work(during=stop)
    record = read_record(spokes.top / ".git/worktrees/a")
    [run] = spokes.link.runs.values()
    spokes.signals["go"].send()
    find(spokes.link, run)
    result = await spokes.work()

    assert stopped.names == {"a": "Aborted"}, stopped.lines
    assert record
    assert (known := parse_conversation(record.turn.conversation))
    assert known.lost
    assert result.code is ExitCode.COMPLETED, result.lines
    assert spokes.journal.turns() == ["a-1-1"]
    assert (spokes.list_published(), spokes.list_left("north")) == ([], [])
