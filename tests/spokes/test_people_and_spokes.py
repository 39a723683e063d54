"""Work of sessions on other machines that waits for a person, and what such a session is told if it spawns a task."""

from pathlib import Path

import pytest
from persons_commands import commit_by_hand, permit, take
from spoke_harness import SpokeHarness

from flows.cli.agent_tools.arguments import SpawnArguments
from flows.cli.agent_tools.caller import identify
from flows.cli.agent_tools.operations import spawn
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.reporting.run_report import ExitCode

PART = "---\nid: part\nname: Do part\n---\n## Description\nWrite it.\n"


async def test_work_from_elsewhere_waits_for_a_person_and_lands_with_no_machine_online(spokes: SpokeHarness) -> None:
    async def try_to_spawn(_: OpenRun) -> None:
        await spokes.signals["began"].wait()
        place = Path(spokes.journal.read("a-1-1", "cwd").strip())
        caller = identify(place)
        assert caller.task_id == "a"
        with pytest.raises(InputError, match=r"the run of this session is on another machine, .* nothing was spawned"):
            await spawn(place, caller, SpawnArguments(task=PART, start=True))
        spokes.signals["go"].send()

    tasks = {"a": {}, "design": {"assignee": "human"}}
    spokes.make(
        tasks, "tell began; await go; work", signals=["began", "go"], land={"ask": True}, spawn={"enabled": True}
    )
    take(spokes, "design")
    waited = await spokes.work(during=try_to_spawn)
    assert (waited.names, waited.code) == ({"a": "Waiting"}, ExitCode.WAITING)
    assert (spokes.list_left("north"), spokes.list_published()) == ([], [])
    assert spokes.log("%s") == ["Begin"]

    spokes.link.offline.add("north")
    commit_by_hand(spokes, "design", "design.md", "Round.\n")
    for name in tasks:
        permit(spokes, name)
    landed = await spokes.work()

    assert (landed.names, landed.code) == (dict.fromkeys(tasks, "Merged"), ExitCode.COMPLETED)
    assert spokes.journal.turns() == ["a-1-1"]
    assert spokes.leftovers() == ["refs/remotes/origin/main"]
