"""The real opencode, with a scripted model, coordinates two sessions through the tools of `coordinator mcp`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checker import Meant, check, snapshot_user_state
from e2e.conftest import Coordinator
from e2e.opencode_harness import OpencodeHarness, commit, isolate, node, opening, read_results
from run_harness import write_task

pytestmark = pytest.mark.xdist_group("prefect and opencode")


@pytest.fixture
def oc(tmp_path: Path) -> Iterator[OpencodeHarness]:
    with opening(tmp_path) as harness:
        yield harness


def use(tool: str, **arguments: Any) -> dict[str, Any]:
    """A call of a tool, whose name opencode puts together from that of the server and its own."""
    return {"tool": f"coordinator_{tool.replace('.', '_')}", "args": arguments}


def spawn(task_id: str, **front: Any) -> dict[str, Any]:
    return use("coord.spawn", task=write_task(task_id, **node(commit(task_id)), **front))


def test_a_session_plans_two_tasks_spawns_them_hears_of_both_ends_and_reports(
    coordinator: Coordinator, oc: OpencodeHarness, tmp_path: Path
) -> None:
    lead = node(
        use("coord.plan"),
        spawn("one"),
        spawn("two"),
        use("coord.status", parent="lead", wait_seconds=50),
        use("coord.status", parent="lead", wait_seconds=50),
        use("coord.report"),
        commit("lead"),
    )
    oc.make({"lead": lead}, spawn={"enabled": True})
    before = snapshot_user_state(oc.top)

    code, output = coordinator.run("run", oc.top, extra=isolate(tmp_path))

    assert code == 0, output
    plan, first, second, _, ended, report, _ = read_results(oc.requests("lead")[-1])
    assert json.loads(plan)["groups"] == [["lead"]]
    assert [json.loads(said)["branch"] for said in (first, second)] == ["feat/one", "feat/two"]
    states = {one["id"]: one for one in json.loads(ended)["nodes"]}
    assert {one: (state["has_ended"], state["spawned_by"]) for one, state in states.items()} == {
        "one": (True, "lead"),
        "two": (True, "lead"),
    }
    assert "## What Went Right" in json.loads(report)["text"]
    assert oc.log("%s", "--grep=^spawned(") == ["spawned(two): Do two", "spawned(one): Do one"]
    assert oc.log("%(trailers:key=Parent,valueonly,separator=)", "--grep=^spawned(") == ["lead", "lead"]
    assert check(oc.top, before=before, meant=Meant(dict.fromkeys(("lead", "one", "two"), "completed"))) == []
    assert oc.find_remains() == []


def test_without_the_key_a_session_has_no_tools(coordinator: Coordinator, oc: OpencodeHarness, tmp_path: Path) -> None:
    oc.make({"lead": node(commit("lead"))})

    code, output = coordinator.run("run", oc.top, extra=isolate(tmp_path))

    assert code == 0, output
    names = [one["function"]["name"] for one in oc.requests("lead")[-1]["tools"]]
    assert names
    assert [name for name in names if name.startswith("coordinator")] == []
