"""Kills around a push: the next run reads from the remote what was pushed, and does the rest."""

import asyncio
import signal

import pytest
from push.remote_harness import RemoteHarness, completed, start_run

KILL = "kill -9 $(cat ../coordinator.pid)"


@pytest.mark.parametrize("moment", ["pre-receive", "post-receive"])
async def test_kill_before_and_after_the_remote_took_a_push_loses_nothing_and_lands_nothing_twice(
    shared: RemoteHarness, moment: str
) -> None:
    shared.make(
        {"a": {}, "b": {"depends_on": ["a"]}}, "[ -f $id.txt ] || work; git push -q origin HEAD", verify=["true"]
    )
    shared.hook(moment, f"while read -r _ _ ref; do [ $ref != refs/heads/main ] || {KILL}; done")

    killed = start_run(shared.place)
    await asyncio.to_thread(killed.communicate, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    shared.unhook(moment)
    worked = await shared.work()

    assert worked.pending == ""
    assert shared.hub_log() == ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]
    assert shared.at() == shared.at_hub("main")
    assert shared.judge(completed("a", "b"), verify=["true"]) == []
    assert shared.leftovers() == []
    assert [turn for turn in shared.journal.turns() if turn.startswith("a")] == ["a-1-1"]


async def test_kill_after_the_last_push_is_made_up_for_by_a_run_that_has_nothing_to_work(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, "work; git push -q origin HEAD")
    shared.hook("post-receive", f"while read -r _ _ ref; do [ $ref != refs/heads/main ] || {KILL}; done")
    killed = start_run(shared.place)
    await asyncio.to_thread(killed.communicate, timeout=300)
    shared.unhook("post-receive")
    assert (shared.log("%s"), shared.hub_branches()) == (["Begin"], ["feat/a", "main"])

    worked = await shared.work()

    assert worked.started == []
    assert shared.log("%s") == ["Merge feat/a: Do a", "Begin"]
    assert shared.leftovers() == []
