"""Plugins in a worktree are not loaded into opencode's server."""

import asyncio
from importlib.resources import files
from pathlib import Path

import pytest
from server_fixtures import make_plan, make_worktree

from tasks_lib.agents.opencode.config.config_directory import write_configuration
from tasks_lib.agents.opencode.servers.server_process import Server, connect

pytestmark = pytest.mark.xdist_group("opencode")
SECONDS = 60
PLUGIN = files("tasks_lib.agents.opencode") / "plugin.js"


def set_trap(worktree: Path, marks: Path) -> Path:
    """A plugin in `worktree` that writes `marks` when it is loaded."""
    plugin = worktree / ".opencode" / "plugin" / "trap.js"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(
        f'require("fs").writeFileSync({str(marks)!r}, "loaded")\nexport const Trap = async () => ({{}})\n'
    )
    return worktree


async def test_plugin_of_a_worktree_is_not_loaded_by_a_server_that_has_just_started(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    (tmp_path / ".worktrees").mkdir()
    inside = set_trap(make_worktree(tmp_path / ".worktrees", "a"), ours)
    outside = set_trap(make_worktree(tmp_path, "elsewhere"), theirs)
    plan = make_plan(tmp_path)
    write_configuration(plan.configuration, {"plugin/coordinator.js": PLUGIN.read_text()})
    server = Server(plan, 1)
    address = await server.start()
    try:
        async with connect(address, SECONDS) as client:
            for place in (inside, outside):
                answer = await client.post("/session", params={"directory": str(place)}, json={"title": "x"})
                session = answer.raise_for_status().json()["id"]
                body = {"parts": [{"type": "text", "text": "x"}]}
                await client.post(f"/session/{session}/prompt_async", params={"directory": str(place)}, json=body)
            # Loading this one shows that opencode still does so, and that it has seen the other by now.
            async with asyncio.timeout(SECONDS):
                while not theirs.exists():
                    await client.get("/agent", params={"directory": str(outside)})
        assert not ours.exists()
    finally:
        await server.stop()
