"""A session elsewhere of which nothing is heard is looked at before it is given up, and that is told."""

from dataclasses import replace

import pytest
from run_harness import until
from spoke_harness import SpokeHarness

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.status_board import HEARD, SILENT
from tasks_lib.settings.spoke_schema import SpokeSettings

LOST_SECONDS = SpokeSettings().lost_seconds


def listen(opened: OpenRun) -> list[str]:
    """Lines about silence, as they come."""
    lines: list[str] = []

    def hear(_: str, line: str) -> None:
        if SILENT in line or HEARD in line:
            lines.append(line)

    opened.run.board.listen(hear)
    return lines


async def be_silent(spokes: SpokeHarness, seconds: float) -> None:
    """Let the link say that nothing was heard of the only session for so long."""
    [run] = spokes.link.runs.values()
    await until(lambda: run.news.progress is not None and run.news.progress.stage == "session")
    await run.change(replace(run.news, silent_seconds=seconds))


async def test_a_session_is_given_up_at_once_if_its_worker_is_offline(two_spokes: SpokeHarness) -> None:
    spokes = two_spokes
    spokes.make({"a": {}}, 'if [ "$attempt" = 1 ]; then tell begun; sleep 1000; fi; work', signals=["begun"])
    heard: list[list[str]] = []

    async def lose(opened: OpenRun) -> None:
        heard.append(listen(opened))
        await spokes.signals["begun"].wait()
        spokes.link.offline.add("north")
        await be_silent(spokes, LOST_SECONDS + 1)

    result = await spokes.work(during=lose)

    assert result.code is ExitCode.COMPLETED, result.lines
    [(_, reason)] = result.retries
    assert "nothing was heard of it for 121 seconds, and its worker is offline" in reason
    [said] = [line for line in result.lines if "silent: " in line]
    assert said.startswith("a: session: silent: on north, nothing was heard of it for 121 seconds")
    assert said.endswith("; it is given up")
    assert len(heard[0]) == 1
    assert [run.machine for run in spokes.link.runs.values()] == ["north", "south"]
    assert spokes.link.stopped


async def test_a_session_whose_worker_is_online_has_more_time_and_may_be_heard_of_again(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, "tell begun; await go; work", signals=["begun", "go"])
    heard: list[list[str]] = []

    async def be_slow(opened: OpenRun) -> None:
        heard.append(listen(opened))
        await spokes.signals["begun"].wait()
        for seconds in (LOST_SECONDS + 1, LOST_SECONDS + 2):
            await be_silent(spokes, seconds)
            await until(lambda: any(SILENT in line for line in heard[0]))
        await be_silent(spokes, 0.0)
        await until(lambda: any(HEARD in line for line in heard[0]))
        spokes.signals["go"].send()

    result = await spokes.work(during=be_slow)

    assert result.code is ExitCode.COMPLETED, result.lines
    assert result.retries == []
    assert [HEARD in line for line in heard[0]] == [False, True], "told once, although it stayed silent"
    [said] = [line for line in result.lines if "silent: " in line]
    assert "and its worker is online" in said
    assert said.endswith("; it is given up if that lasts 120 seconds more")


async def test_a_session_whose_worker_is_online_is_given_up_too_in_the_end(
    spokes: SpokeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks_lib.spokes.remote_sessions.RETURN_SECONDS", 0.1)  # It would be waited for to come back.
    spokes.make({"a": {}}, 'if [ "$attempt" = 1 ]; then tell begun; sleep 1000; fi; work', signals=["begun"])

    async def lose(_: OpenRun) -> None:
        await spokes.signals["begun"].wait()
        await be_silent(spokes, 2 * LOST_SECONDS + 1)

    result = await spokes.work(during=lose)

    [(_, reason)] = result.retries
    assert "nothing was heard of it for 241 seconds, and its worker is online" in reason
