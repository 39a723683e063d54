"""A session runs on a spoke that is online; with none online it runs on the hub, or waits if it may not."""

from pathlib import Path

import pytest
from run_harness import until
from spoke_harness import SpokeHarness, lose, open_spokes

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.spokes import remote_sessions


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_sessions, "LOOK_SECONDS", 0.05)


def has_said(opened: OpenRun, text: str) -> bool:
    return any(text in message for message in opened.run.board.view.messages)


@pytest.mark.parametrize(("front", "which"), [({}, "no spoke is"), ({"runs_on": "north"}, "the spoke north is not")])
async def test_a_node_that_may_not_run_here_says_what_to_start_and_waits(
    spokes: SpokeHarness, front: dict[str, str], which: str
) -> None:
    spokes.make({"a": front})
    spokes.link.offline.add("north")

    async def start_worker(opened: OpenRun) -> None:
        said = f"a waits for a spoke: {which} online in the work pool coordinator-sessions; start it with `coordinator spoke"
        await until(lambda: has_said(opened, said))
        spokes.link.offline.discard("north")

    result = await spokes.work(during=start_worker)
    assert result.code is ExitCode.COMPLETED, result.lines
    assert any("offline: north" in message for message in result.view.messages)
    assert "north" in spokes.journal.read("a-1-1", "cwd")


async def test_a_node_that_waits_for_one_spoke_keeps_no_other_from_running(two_spokes: SpokeHarness) -> None:
    spokes = two_spokes
    spokes.make({"a": {"runs_on": "north"}, "b": {}}, spokes={"sessions_each": 1})
    spokes.link.offline.add("north")

    async def start_worker(opened: OpenRun) -> None:
        await until(lambda: spokes.has("b.txt"))
        spokes.link.offline.discard("north")

    result = await spokes.work(during=start_worker)
    assert result.code is ExitCode.COMPLETED, result.lines
    assert "south" in spokes.journal.read("b-1-1", "cwd")


@pytest.mark.parametrize("prefer", ["spokes", "local"])
async def test_with_no_spoke_online_everything_runs_here(spokes: SpokeHarness, prefer: str) -> None:
    spokes.make({"a": {}, "b": {}}, spokes={"prefer": prefer})
    spokes.link.offline.add("north")
    result = await spokes.work(max_sessions=1)
    assert result.code is ExitCode.COMPLETED, result.lines
    assert not any("north" in spokes.journal.read(turn, "cwd") for turn in spokes.journal.turns())
    assert spokes.link.runs == {}


async def test_waiting_for_a_spoke_ends_when_the_run_is_stopped(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}})
    spokes.link.offline.add("north")

    async def stop(opened: OpenRun) -> None:
        await until(lambda: has_said(opened, "a waits for a spoke"))
        opened.run.stopping.request()

    result = await spokes.work(during=stop)
    assert result.names == {"a": "Aborted"}, result.lines


async def test_a_retry_runs_here_if_its_spoke_died_and_none_is_online(spokes: SpokeHarness) -> None:
    agent = """
if [ "$attempt-$turn" = 1-1 ]; then echo first > first.txt; echo no > wrong.txt; commit first; exit; fi
if [ "$attempt" = 1 ]; then tell begun; sleep 1000; fi
test -f first.txt; test -f built.txt; git rm -q wrong.txt; work"""
    spokes.make(
        {"a": {}}, agent, signals=["begun"], setup=["touch built.txt"], files={".gitignore": "built.txt\n"},
        verify=["test ! -e wrong.txt"], spokes={"prefer": "spokes"},
    )  # fmt: skip

    async def cut_off(opened: OpenRun) -> None:
        await spokes.signals["begun"].wait()
        [run] = spokes.link.runs.values()
        await lose(spokes.link, run)

    result = await spokes.work(during=cut_off)
    assert result.code is ExitCode.COMPLETED, result.lines
    assert spokes.journal.turns() == ["a-1-1", "a-1-2", "a-2-1"]
    assert "north" in spokes.journal.read("a-1-2", "cwd")
    assert "north" not in spokes.journal.read("a-2-1", "cwd")
    assert spokes.link.stopped == list(spokes.link.runs)
    assert "a runs here, since no spoke is online for it." in result.view.messages


@pytest.mark.parametrize("names", [("north",), ("north", "south")])
async def test_work_is_given_back_elsewhere_if_the_spoke_of_its_session_is_gone(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    agent = """
if [ "$turn" = 1 ]; then echo no > wrong.txt; commit wrong; else test -f built.txt; git rm -q wrong.txt; work; fi"""
    with open_spokes(tmp_path, names) as spokes:
        signals = tmp_path / "signals"
        verify = f"if [ -e wrong.txt ]; then mkdir {tmp_path}/seen && echo > {signals}/verifying && read -r _ < {signals}/go; false; fi"
        spokes.make(
            {"a": {}}, agent, signals=["verifying", "go"], setup=["touch built.txt"],
            files={".gitignore": "built.txt\n"}, verify=[verify], spokes={"prefer": "spokes"},
        )  # fmt: skip

        async def lose_between(opened: OpenRun) -> None:
            await spokes.signals["verifying"].wait()
            [run] = spokes.link.runs.values()
            await lose(spokes.link, run)
            await until(lambda: has_said(opened, "The spoke north is offline"))
            spokes.signals["go"].send()

        result = await spokes.work(during=lose_between)
        assert result.code is ExitCode.COMPLETED, result.lines
        assert spokes.journal.turns() == ["a-1-1", "a-1-2"], "it costs no attempt"
        where = spokes.journal.read("a-1-2", "cwd")
        assert ("south" in where, "north" in where) == (len(names) > 1, False)
        assert "a.md" in spokes.journal.read("a-1-2"), "a new conversation is told what the task is"
        assert spokes.link.stopped == [next(iter(spokes.link.runs))]
        assert spokes.list_published() == []


async def test_a_branch_is_reviewed_here_if_the_spokes_are_gone(spokes: SpokeHarness) -> None:
    agent = """
if [ "$role" = code-reviewer ]; then echo "Verdict: approved"; else tell begun; await go; work; fi"""
    spokes.make(
        {"a": {}}, agent, signals=["begun", "go"], review={"when": "always"}, spokes={"prefer": "spokes"},
    )  # fmt: skip

    async def close_for_new_ones(opened: OpenRun) -> None:
        await spokes.signals["begun"].wait()
        spokes.link.offline.add("north")
        await until(lambda: has_said(opened, "The spoke north is offline"))
        spokes.signals["go"].send()

    result = await spokes.work(during=close_for_new_ones)
    assert result.code is ExitCode.COMPLETED, result.lines
    assert "north" in spokes.journal.read("a-1-1", "cwd")
    assert "north" not in spokes.journal.read("a-1-1-review0", "cwd")
