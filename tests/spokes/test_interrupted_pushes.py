"""A session that is ended while git works for it waits for that, and leaves nothing on its machine."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Event

import pytest
from run_harness import Signal, until
from spoke_harness import SpokeHarness

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.git.remote_sessions.session_repository import SessionRepository
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.session.remote_messages import StopOrder

HOLD_FIRST = """#!/bin/sh
grep -q /state$ || exit 0
if mkdir "{place}/first" 2> /dev/null; then
  echo > "{place}/begun"
  read -r _ < "{place}/released"
elif ! mkdir "{place}/second" 2> /dev/null; then exit 0
else
  echo > "{place}/released"
  until git for-each-ref refs/coordinator/sessions | grep -q /state$; do :; done
fi
"""
"""Holds the first push of a session's state back until it is released, or a second one begins, which the first then
overtakes: the server refuses the second, since the ref has moved."""
NOTICE_SECONDS = 1.0
"""How long to wait for what must not happen."""


async def look_for(is_so: Callable[[], bool]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(NOTICE_SECONDS):
            await until(is_so)


async def test_a_session_that_is_ended_while_it_pushes_waits_for_that_push(spokes: SpokeHarness) -> None:
    spokes.make({"a": {}}, "test -f a.txt || work")
    begun, released = (Signal(spokes.place / name) for name in ("begun", "released"))
    hook = spokes.place / "remote.git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(HOLD_FIRST.format(place=spokes.place))
    hook.chmod(0o755)

    async def end(opened: OpenRun) -> None:
        await begun.wait()
        [run] = spokes.link.runs.values()
        run.queue.put_nowait(StopOrder(is_last=True))
        await look_for((spokes.place / "second").exists)
        released.send()
        assert run.job
        await run.job
        assert spokes.list_left("north") == []

    result = await spokes.work(during=end)

    assert result.code is ExitCode.COMPLETED, result.lines
    assert spokes.show("a.txt") == "a\n"
    for signal in (begun, released):
        signal.close()


async def test_a_session_that_is_ended_while_its_worktree_is_opened_removes_it(
    spokes: SpokeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released, opened = Event(), Event(), Event()
    open_worktree = SessionRepository.open_worktree

    def open_when_released(*given: object) -> Worktree:
        begun.set()
        released.wait()
        try:
            return open_worktree(*given)  # pyright: ignore[reportArgumentType]
        finally:
            opened.set()

    monkeypatch.setattr(SessionRepository, "open_worktree", open_when_released)
    spokes.make({"a": {}})

    async def end(_: OpenRun) -> None:
        await until(begun.is_set)
        [run] = spokes.link.runs.values()
        run.queue.put_nowait(StopOrder(is_last=True))
        job = run.job
        assert job
        await look_for(job.done)
        released.set()
        await until(opened.is_set)
        await job
        assert spokes.list_left("north") == []

    result = await spokes.work(during=end)

    assert result.code is ExitCode.COMPLETED, result.lines
    assert spokes.show("a.txt") == "a\n"
