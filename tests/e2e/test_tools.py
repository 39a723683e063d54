"""`coordinator mcp` with a real run: the client of the SDK spawns, follows, messages and aborts."""

import os
from pathlib import Path
from uuid import UUID

import pytest
from checker import Meant, check, snapshot_user_state
from e2e.conftest import Coordinator, ask_until
from e2e.test_messages import Start, count_starts, done, make_gated, open_gate
from e2e.test_messages import start as start
from e2e.tool_client import open_tools
from generated_graphs import Made
from mcp import MCPError

pytestmark = pytest.mark.xdist_group("prefect, with workers")
NAMES = ["coord.spawn", "coord.status", "coord.message", "coord.abort", "coord.plan", "coord.report"]


def write_task(task_id: str, rows: str = "") -> str:
    return f"---\nid: {task_id}\nname: Do {task_id}\n{rows}---\n## Description\nWrite it.\n"


def allow_spawning(made: Made) -> None:
    settings = made.repository / "coordinator.yaml"
    settings.write_text(f"{settings.read_text(encoding='utf-8')}spawn: {{enabled: true}}\n", encoding="utf-8")


async def test_task_is_spawned_followed_and_reported(coordinator: Coordinator, start: Start, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 2, gated=1)
    made.behave("extra", write={"extra.txt": "x\n"})
    before = snapshot_user_state(made.repository)
    process = start(made, 2)

    async with open_tools(coordinator, made.repository) as tools:
        assert [tool.name for tool in (await tools.client.list_tools()).tools] == NAMES
        spawned = await tools.call("coord.spawn", task=write_task("extra"))
        ended = await tools.wait_for("extra")
        plan = await tools.call("coord.plan")
        status = await tools.call("coord.status")
        open_gate(made)
        await tools.wait_for("flat-0", "flat-1")
        output, _ = process.communicate(timeout=120)
        report = await tools.call("coord.report")

    assert process.returncode == 0, output
    assert (spawned["branch"], str(UUID(spawned["session"]))) == ("feat/extra", spawned["session"])
    assert spawned["worktree"] == str(made.repository / ".worktrees/feat/extra")
    assert ended["extra"]["state"] in ("Landed", "Merged")
    assert ended["extra"]["session"] == spawned["session"]
    assert plan["open"] == 1
    states = {node["id"]: node["has_ended"] for node in status["nodes"]}
    assert (states["extra"], states["flat-0"]) == (True, False)
    assert report["exit_code"] == 0
    assert report["text"].startswith("# AAR: ")
    assert "extra" in report["text"]
    meant = Meant({**done(2), "extra": "completed"}, made.verify)
    assert check(made.repository, before=before, meant=meant) == []


async def test_message_that_is_late_and_task_file_with_faults_are_refused(
    coordinator: Coordinator, start: Start, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 2, gated=1)
    process = start(made, 2)

    async with open_tools(coordinator, made.repository) as tools:
        await tools.wait_for("flat-1")
        faults = await tools.refused("coord.spawn", task=write_task("flat-1", "depends_on: [lost]\nrisk: huge\n"))
        late = await tools.refused("coord.message", session="flat-1", message="Hello")
        told = await tools.call("coord.message", session="flat-0", message="Prefer blue")
        resources = (await tools.client.list_resources()).resources
        task_file = await tools.client.read_resource(resources[0].uri)
        with pytest.raises(MCPError, match="is not a task file"):
            await tools.client.read_resource("coordinator://tasks/lost")
        open_gate(made)
        process.communicate(timeout=120)

    for fault in ('"lost"', 'risk "huge"', 'id "flat-1" is also used'):
        assert fault in faults
    assert "the session of flat-1 has ended (" in late
    assert "flat-0" in told["said"][0]
    assert [resource.name for resource in resources] == ["flat-0", "flat-1"]
    assert "id: flat-0" in task_file.contents[0].model_dump()["text"]
    text = " ".join(line["prompt_start"] for line in made.read_journal() if line["event"] == "start")
    assert "Prefer blue" in text


async def test_session_reaches_only_what_it_spawned_and_its_abort_cascades(
    coordinator: Coordinator, start: Start, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 2, gated=2)
    allow_spawning(made)
    made.behave("part", meet="gate", meet_seconds=300)
    process = start(made, 2)
    lead = made.repository / ".worktrees/feat/flat-0"

    async with open_tools(coordinator, lead) as tools:
        part = await tools.call("coord.spawn", task=write_task("part"))
        again = await tools.call("coord.spawn", task=write_task("part"))
        status = await tools.call("coord.status", parent="flat-0")
        other = await tools.refused("coord.abort", session="flat-1")
        itself = await tools.refused("coord.message", session="flat-0", message="Hello")
        await tools.call("coord.message", session=part["session"], message="Prefer blue")
    async with open_tools(coordinator, made.repository, {"COORDINATOR_REPOSITORY": "x"}) as tools:
        reader = await tools.refused("coord.spawn", task=write_task("more"))
    ask_until(lambda: count_starts(made), lambda count: count >= 3)
    async with open_tools(coordinator, made.repository) as tools:
        said = (await tools.call("coord.abort", session="flat-0"))["said"]
        ended = await tools.wait_for("flat-0", "part")
    open_gate(made)
    process.communicate(timeout=120)

    assert (part["spawned_by"], part["session"]) == ("flat-0", again["session"])
    assert [node["id"] for node in status["nodes"]] == ["part"]
    assert "flat-1 was not spawned by flat-0" in other
    assert "flat-0 was not spawned by flat-0" in itself
    assert "may only read" in reader
    assert "part" in said[0]
    assert {node["state"] for node in ended.values()} == {"Aborted"}


async def test_killed_run_continues_with_what_its_session_has_spawned(
    coordinator: Coordinator, start: Start, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 1, gated=1)
    allow_spawning(made)
    made.behave("part", meet="gate", meet_seconds=300, write={"part.txt": "x\n"})
    before = snapshot_user_state(made.repository)
    process = start(made, 1)
    lead = made.repository / ".worktrees/feat/flat-0"
    async with open_tools(coordinator, lead) as tools:
        await tools.call("coord.spawn", task=write_task("part"))
        process.kill()
        process.communicate()
        ended = await tools.refused("coord.spawn", task=write_task("other"), start=True)
    open_gate(made)

    code, output = coordinator.run("run", made.repository, "--only", "flat-0")

    assert "the run of this session has ended, so nothing was spawned" in ended
    assert code == 0, output
    meant = Meant({**done(1), "part": "completed"}, made.verify)
    assert check(made.repository, before=before, meant=meant) == []


async def test_without_a_run_spawning_says_so_or_starts_one(coordinator: Coordinator, tmp_path: Path) -> None:
    made = make_gated(tmp_path, 1, gated=0)
    made.behave("extra", write={"extra.txt": "x\n"})
    before = snapshot_user_state(made.repository)

    async with open_tools(coordinator, made.repository) as tools:
        refused = await tools.refused("coord.spawn", task=write_task("extra"))
        faults = await tools.refused("coord.spawn", task=write_task("extra", "risk: huge\n"), start=True)
        spawned = await tools.call("coord.spawn", task=write_task("extra"), start=True, wait_seconds=50)
        ended = await tools.wait_for("extra", "flat-0")
        nobody = await tools.refused("coord.message", session="extra", message="Hello")

    ask_until(lambda: os.path.exists(made.repository / ".worktrees"), lambda is_there: not is_there)  # noqa: PTH110
    assert "no run is in progress" in refused
    assert "start: true" in refused
    assert 'risk "huge"' in faults
    assert spawned["session"]
    assert Path(spawned["log"]).is_relative_to(made.repository)
    assert ended.keys() == {"extra", "flat-0"}
    assert "has ended" in nobody or "no run is in progress" in nobody
    meant = Meant({**done(1), "extra": "completed"}, made.verify)
    assert check(made.repository, before=before, meant=meant) == []


async def test_arguments_that_are_wrong_are_named_and_files_with_faults_too(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 1, gated=0)

    async with open_tools(coordinator, made.repository) as tools:
        both = await tools.refused("coord.spawn", task="x", id="y")
        many = await tools.refused("coord.status", wait_seconds=1000, parents="x")
        unknown = await tools.refused("coord.status", parent="flot-0")

    assert "either the text of a new task file" in both
    assert "wait_seconds" in many
    assert "parents" in many
    assert "Did you mean" in unknown
