"""A session on another machine starts once that machine has memory and disk left for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from run_harness import until
from spoke_harness import SpokeHarness

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import SystemFailure
from tasks_lib.process.host_resources import HostResources
from tasks_lib.settings.time_schema import WatchSettings
from tasks_lib.spokes.room import wait_for_room

PLENTY = 10**9
"""Megabytes that no machine has."""
WATCH = WatchSettings(turn_seconds=60)


async def wait(memory: Iterator[int], said: list[str], shown: list[str]) -> None:
    async def pause(seconds: float) -> None:
        shown.append(f"{seconds:g} s")

    await wait_for_room(WATCH, Path(), shown.append, said.append, lambda _: HostResources(next(memory), PLENTY), pause)


async def test_session_waits_until_there_is_room_and_says_why() -> None:
    said, shown = list[str](), list[str]()
    await wait(iter([100, 200, PLENTY]), said, shown)
    assert [line.partition(" MB")[0] for line in shown] == ["Only 100", "10 s", "Only 200", "10 s", ""]
    assert len(said) == 2


async def test_session_with_room_does_not_wait() -> None:
    said, shown = list[str](), list[str]()
    await wait(iter([PLENTY]), said, shown)
    assert (said, shown) == ([], [])


async def test_machine_without_room_for_as_long_as_a_turn_may_take_refuses_the_session() -> None:
    with pytest.raises(SystemFailure, match=r"has not changed for 60 seconds"):
        await wait(iter([100] * 7), [], [])


async def test_run_shows_what_a_session_elsewhere_is_waiting_for(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, watch={"free_disk_mb": PLENTY})

    async def look(opened: OpenRun) -> None:
        await until(lambda: "of the disk" in opened.run.board.view.nodes["a"].activity)
        opened.run.stopping.request()

    result = await spokes.work(during=look)
    assert result.names == {"a": "Aborted"}
    assert spokes.list_left("north") == []
