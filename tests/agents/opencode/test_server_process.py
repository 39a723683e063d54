"""One real opencode server: started, checked for health, killed, and ended with everything that it had opened."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest
from server_fixtures import (
    SECONDS,
    find_carriers,
    is_answered,
    make_backend,
    make_fake_program,
    make_plan,
    make_worktree,
    run_shell,
    with_model,
)

from flows.demo.model_server import ModelServer
from tasks_lib.agents.backend import Need
from tasks_lib.agents.opencode.servers.server_interface import Address
from tasks_lib.agents.opencode.servers.server_pool import ServerPool
from tasks_lib.agents.opencode.servers.server_process import Server, connect, find_port, read_health
from tasks_lib.errors import AgentError

pytestmark = pytest.mark.xdist_group("opencode")


def leader_of(address: Address) -> psutil.Process:
    assert address.group
    return psutil.Process(address.group.pid)


def find_libraries(place: Path) -> list[Path]:
    return list(place.rglob("*.so"))


async def test_a_server_is_well_and_leaves_nothing(tmp_path: Path) -> None:
    server = Server(make_plan(tmp_path), 0)
    address = await server.start()
    process = leader_of(address)
    assert await read_health(address) == "1.18.33"
    assert process.cwd() == str(tmp_path / "data" / "0" / "cwd")
    with pytest.raises(AgentError, match="refuses the password"):
        await read_health(Address(address.url, "wrong"))
    await server.stop()
    await server.stop()
    assert not await is_answered(address)
    assert find_carriers("COORDINATOR_REPOSITORY", str(tmp_path)) == []
    assert list((tmp_path / "home").iterdir()) == []


async def test_a_server_leaves_no_libraries_that_it_unpacked(tmp_path: Path) -> None:
    temporary, worktree = tmp_path / "temporary", make_worktree(tmp_path)
    temporary.mkdir()
    server = Server(make_plan(tmp_path, environment={"TMPDIR": str(temporary)}), 0)
    address = await server.start()
    try:
        async with connect(address, SECONDS) as client:
            sought = {"directory": str(worktree), "query": "a"}
            (await client.get("/find/file", params=sought)).raise_for_status()
        assert find_libraries(tmp_path) != []
    finally:
        await server.stop()
    assert find_libraries(tmp_path) == []


async def test_a_port_that_is_taken_meanwhile_is_another_one_then(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = [find_port(), int(taken.getsockname()[1])]
        server = Server(make_plan(tmp_path), 0, choose_port=ports.pop)
        address = await server.start()
        try:
            assert address.generation == 2
            assert not ports
            assert await is_answered(address)
        finally:
            await server.stop()


async def test_a_program_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    server = Server(make_plan(tmp_path, ["sh", "-c", "echo the database is malformed >&2; exit 4"]), 0)
    with pytest.raises(AgentError, match="the database is malformed"):
        await server.start()
    await server.stop()


async def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="/no/such/opencode"):
        await Server(make_plan(tmp_path, ["/no/such/opencode"]), 0).start()


async def test_a_server_of_another_version_is_not_taken(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, make_fake_program(tmp_path), environment={"STAND_IN_VERSION": "2.0.0"})
    with pytest.raises(AgentError, match=r"opencode 2\.0\.0"):
        await Server(plan, 0).start()
    assert find_carriers("COORDINATOR_REPOSITORY", str(tmp_path)) == []


async def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    server = Server(make_plan(tmp_path, ["sh", "-c", "echo up; exec sleep 1000"]), 0)
    start = asyncio.create_task(server.start())
    while not (server.log.exists() and server.log.read_text()):
        await asyncio.wait({start}, timeout=0.05)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert find_carriers("COORDINATOR_REPOSITORY", str(tmp_path)) == []


async def test_a_wrapper_stands_before_the_program(tmp_path: Path) -> None:
    server = Server(make_plan(tmp_path, make_fake_program(tmp_path), wrapper=("env", "WRAPPED=yes")), 0)
    process = leader_of(await server.start())
    try:
        assert process.environ()["WRAPPED"] == "yes"
    finally:
        await server.stop()


async def test_the_users_logins_are_there_and_renewed_where_they_are(tmp_path: Path) -> None:
    theirs = tmp_path / "home" / ".local" / "share" / "opencode" / "auth.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"anthropic": {"type": "api", "key": "sk-user"}}')
    server = Server(make_plan(tmp_path), 0)
    address = await server.start()
    try:
        async with connect(address, 60) as client:
            found = (await client.get("/config/providers", params={"directory": str(tmp_path)})).json()
            assert "anthropic" in {provider["id"] for provider in found["providers"]}
            await client.put("/auth/other", json={"type": "api", "key": "sk-new"})
    finally:
        await server.stop()
    assert "sk-new" in theirs.read_text()


async def test_a_killed_server_takes_its_shells_along_and_comes_back_with_its_conversations(tmp_path: Path) -> None:
    worktree = make_worktree(tmp_path)
    with ModelServer() as model:
        backend = make_backend(tmp_path, with_model(model.url))
        try:
            await backend.prepare([Need("implementation-specialist")])
            assert isinstance(backend.servers, ServerPool)
            lease = await backend.servers.lease(0)
            backend.servers.write_shell_environment(
                worktree, {"PATH": os.environ["PATH"], "COORDINATOR_SESSION": f"s-{tmp_path}"}
            )
            first = await lease.address()
            line = "setsid sleep 1000 > /dev/null 2>&1 & sleep 1000 > /dev/null 2>&1 & echo begun"
            assert "begun" in await run_shell(first, worktree, line)
            assert len(find_carriers("COORDINATOR_SESSION", f"s-{tmp_path}")) == 2
            death = asyncio.create_task(lease.wait_until_dead(first.generation))
            os.kill(leader_of(first).pid, signal.SIGKILL)
            await death
            assert find_carriers("COORDINATOR_SESSION", f"s-{tmp_path}") == []
            second, third = await asyncio.gather(lease.address(), lease.address())
            assert second == third
            assert second.generation == first.generation + 1
            assert second.password == first.password
            async with connect(second, 60) as client:
                sessions = (await client.get("/session", params={"directory": str(worktree)})).json()
            assert [session["title"] for session in sessions] == ["a test"]
            await run_shell(second, worktree, line)
            assert len(find_carriers("COORDINATOR_SESSION", f"s-{tmp_path}")) == 2
        finally:
            await backend.close()
    assert find_carriers("COORDINATOR_SESSION", f"s-{tmp_path}") == []
    assert find_carriers("COORDINATOR_REPOSITORY", str(tmp_path)) == []


async def test_the_users_configuration_counts_and_is_left_as_it_is(tmp_path: Path) -> None:
    theirs = tmp_path / "home" / ".config" / "opencode"
    for name, text in {
        "opencode.json": '{"theme": "system", "username": "{file:../name}"}',
        "agent/scout.md": "---\ndescription: Looks around.\n---\nLook around.",
        "plugin/theirs.js": 'import { mode } from "helper"\nexport const Theirs = async () => ({'
        "config: async (config) => { config.agent.scout.description = mode } })",
        "node_modules/helper/package.json": '{"name": "helper", "main": "index.js"}',
        "node_modules/helper/index.js": 'exports.mode = "From a plugin."',
        "package.json": '{"dependencies": {"helper": "1"}}',
        "../name": "Ada",
        "../../.opencode/agent/second.md": "---\ndescription: Too.\npermission: {read: {'~/x': deny}}\n---\nLook.",
        "../../.opencode/bin/opencode": "",
    }.items():
        (theirs / name).parent.mkdir(parents=True, exist_ok=True)
        (theirs / name).write_text(text)
    before = sorted(path for path in (tmp_path / "home").rglob("*") if ".cache" not in path.parts)
    server = Server(make_plan(tmp_path), 0)
    address = await server.start()
    try:
        async with connect(address, 120) as client:
            where = {"directory": str(make_worktree(tmp_path))}
            agents = (await client.get("/agent", params=where)).raise_for_status().json()
            configuration = (await client.get("/config", params=where)).json()
    finally:
        await server.stop()
    found = {one["name"]: one for one in agents}
    assert [found[name]["description"] for name in ("scout", "second")] == ["From a plugin.", "Too."]
    assert str(tmp_path / "home" / "x") in {rule["pattern"] for rule in found["second"]["permission"]}
    assert configuration["username"] == "Ada"
    assert sorted(path for path in (tmp_path / "home").rglob("*") if ".cache" not in path.parts) == before
    place = tmp_path / "data" / "0" / "config" / "opencode"
    assert list((place / "node_modules").iterdir()) == []
