"""opencode as a backend: faults are reported before any session is opened, and no configuration loosens permissions."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from opencode_scripts import find_opencode
from permission_rules import decide, find_last
from server_fixtures import (
    Opened,
    find_carriers,
    make_backend,
    make_fake_program,
    make_plan,
    make_spec,
    make_worktree,
    with_model,
)

from flows.demo.model_server import ModelServer
from tasks_lib.agents.backend import Need
from tasks_lib.agents.opencode.backend import OpencodeBackend, find_data
from tasks_lib.agents.opencode.config.permissions import Rule
from tasks_lib.agents.opencode.servers.model_catalog import Catalog, check_models, check_reach, understand
from tasks_lib.agents.opencode.servers.server_interface import Address
from tasks_lib.agents.opencode.servers.server_process import Server, connect, find_port
from tasks_lib.errors import AgentError, InputError

pytestmark = [pytest.mark.xdist_group("opencode"), pytest.mark.asyncio(loop_scope="module")]

LOOSE: Any = {
    "permission": {"bash": "allow", "external_directory": {"*": "allow", "/opt/*": "allow"}, "*": "allow"},
    "agent": {
        "implementation-specialist": {"permission": {"external_directory": "allow", "*": "allow"}},
        "theirs": {"permission": {"external_directory": {"/opt/*": "allow"}, "*": "allow"}, "model": "mine/u1"},
    },
    "provider": {"mine": {"npm": "@ai-sdk/openai-compatible", "options": {"apiKey": "x"}, "models": {"u1": {}}}},
}
"""A user's own configuration that allows much more than the run's; refusals are tested in `test_theirs.py`."""

ROLES = {
    ".opencode/agents/loose/one.md": "---\nmode: subagent\npermission: {external_directory: allow, '*': allow, "
    "question: allow, read: {'*.env': allow}, bash: allow}\n---\nkey {env:MY_KEY}, file {file:/etc/hostname}",
    ".opencode/agent/tight.md": "---\nmodel: mine/u1\npermission: {edit: deny, bash: {'*': deny, 'git *': allow}}\n---\n",
    ".opencode/agents/explore.md": "---\npermission: allow\n---\nLook.",
    ".opencode/agents/resolver.md": "---\ndisable: true\n---\n",
}


@dataclass(frozen=True)
class House:
    backend: OpencodeBackend
    address: Address
    worktree: Path
    directory: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[House]:
    """A prepared backend, for a user whose own configuration allows a lot."""
    directory = tmp_path_factory.mktemp("backend")
    theirs = directory / "home" / ".config" / "opencode"
    (theirs / "node_modules").mkdir(parents=True)
    (theirs / "opencode.json").write_text(json.dumps(LOOSE))
    stub = {"lockfileVersion": 3, "packages": {"": {"dependencies": {"@opencode-ai/plugin": "*"}}}}
    (theirs / "package-lock.json").write_text(json.dumps(stub))
    worktree = make_worktree(directory)
    (worktree / ".opencode" / "agent").mkdir(parents=True)
    (worktree / ".opencode" / "agent" / "sneaked.md").write_text("---\npermission: allow\n---\n")
    (worktree / "opencode.json").write_text('{"permission": "allow", "model": "sneaked/in"}')
    with ModelServer() as model:
        agent = with_model(model.url, permission={"bash": {"git push*": "deny"}}, keys=["MY_KEY"])
        switches = {"OPENCODE_PURE": "1", "OPENCODE_PERMISSION": '{"bash": "allow"}', "OPENCODE_DISABLE_SHARE": "0"}
        backend = make_backend(directory, agent, {"MY_KEY": "sk-secret", **switches}, ROLES)
        try:
            await backend.prepare([Need("implementation-specialist"), Need("tight"), Need("loose/one")])
            assert backend.servers
            address = await (await backend.servers.lease()).address()
            yield House(backend, address, worktree, directory)
        finally:
            await backend.close()
    assert find_carriers("COORDINATOR_REPOSITORY", str(directory)) == []


async def ask(house: House, path: str) -> Any:
    async with connect(house.address, 60) as client:
        return (await client.get(path, params={"directory": str(house.worktree)})).raise_for_status().json()


async def rules_of(house: House) -> dict[str, Sequence[Rule]]:
    agents = await ask(house, "/agent")
    return {
        agent["name"]: [Rule(one["permission"], one["pattern"], one["action"]) for one in agent["permission"]]
        for agent in agents
    }


def settle(rules: Sequence[Rule], permission: str, subject: str) -> str:
    found = find_last(rules, permission, subject)
    return found.action if found else "ask"


async def test_no_role_and_no_configuration_of_the_user_allows_what_the_policy_refuses(house: House) -> None:
    rules = await rules_of(house)
    assert {"build", "general", "explore", "theirs", "loose/one", "implementation-specialist"} <= rules.keys()
    for name, found in rules.items():
        for subject in ("/etc/passwd", "/opt/x", "/root/.ssh/id", str(house.directory / "private" / "x")):
            assert settle(found, "external_directory", subject) == "deny", name
        for permission, subject in (("doom_loop", "bash"), ("read", "/w/.env"), ("bash", "git push --force")):
            assert settle(found, permission, subject) == "deny", name


async def test_nobody_is_asked_for_what_agents_need(house: House) -> None:
    rules = await rules_of(house)
    for name in ("implementation-specialist", "loose/one", "general", "build"):
        for permission, subject in (("bash", "make test"), ("edit", "a.py"), ("read", "a.py"), ("webfetch", "x")):
            assert settle(rules[name], permission, subject) == "allow", (name, permission)
        assert settle(rules[name], "external_directory", "/tmp/opencode/x") == "allow"


async def test_a_role_of_the_repository_is_narrower_where_it_says_so(house: House) -> None:
    tight = (await rules_of(house))["tight"]
    assert settle(tight, "edit", "a.py") == "deny"
    assert settle(tight, "bash", "make") == "deny"
    assert settle(tight, "bash", "git log") == "allow"
    assert settle(tight, "bash", "git push") == "deny"


async def test_the_real_one_decides_as_the_tests_of_permissions_reckon(house: House) -> None:
    """The rules that a server lists begin with its built-in ones, in the order that these tests assume."""
    found = (await rules_of(house))["implementation-specialist"]
    for permission in ("bash", "edit", "read", "doom_loop", "question", "webfetch"):
        for subject in ("git push x", "git", "/w/.env", "/w/.env.example", "a", "*"):
            assert settle(found, permission, subject) == decide(found, permission, subject)
    assert find_last(found[:1], "anything", "at all") == Rule("*", "*", "allow")


async def test_a_worktree_has_no_say(house: House) -> None:
    assert "sneaked" not in await rules_of(house)
    assert (await ask(house, "/config"))["model"] == "scripted/m1"


async def test_nothing_in_a_role_is_replaced_by_a_secret_or_a_file(house: House) -> None:
    (found,) = [agent for agent in await ask(house, "/agent") if agent["name"] == "loose/one"]
    assert found["prompt"] == "key {env:MY_KEY}, file {file:/etc/hostname}"


async def test_a_plugin_that_is_not_loaded_is_noticed(tmp_path: Path) -> None:
    with ModelServer() as model:
        backend = make_backend(
            tmp_path, {**with_model(model.url), "command": ["env", "OPENCODE_PURE=1", str(find_opencode())]}
        )
        try:
            with pytest.raises(AgentError, match="did not load the plugin"):
                await backend.prepare([])
        finally:
            await backend.close()


async def test_what_is_missing_is_said_all_at_once_with_what_there_is(house: House) -> None:
    needs = [
        Need("code-reviwer", where="coordinator.yaml: roles"),
        Need("resolver"),
        Need("tight", "scripted/m2", "tasks/a.md:4: model"),
        Need("tight", "scriptd/m1", "tasks/b.md:4: model"),
    ]
    with pytest.raises(InputError) as caught:
        await house.backend.prepare(needs)
    text = str(caught.value)
    assert len(caught.value.faults) == 4
    assert 'code-reviwer is not available: no role has this name. Did you mean "code-reviewer"?' in text
    assert ".opencode/agents/resolver.md disables it" in text
    assert (
        "tasks/a.md:4: model: the model scripted/m2 is not available: scripted has no model of this name; its models: m1."
        in text
    )
    assert 'there is no usable provider scriptd. Did you mean "scripted"?' in text


async def test_sessions_get_their_role_and_the_nearest_model(house: House, tmp_path: Path) -> None:
    def opened(role: str, model: str = "") -> tuple[str, str, str]:
        session: Any = house.backend.open(make_spec(tmp_path, role, model))
        assert isinstance(session, Opened)
        return session.agent, session.model, session.system

    assert opened("implementation-specialist") == ("implementation-specialist", "scripted/m1", "")
    assert opened("tight") == ("tight", "mine/u1", "")
    assert opened("theirs") == ("theirs", "mine/u1", "")
    assert opened("tight", "scripted/m1") == ("tight", "scripted/m1", "")


async def test_roles_permissions_and_the_program_are_looked_at_before_anything_is_started(tmp_path: Path) -> None:
    roles = {".opencode/agents/a.md": "---\nmode: boss\n---\n"}
    agent = {"command": ["/no/such/opencode"], "permission": {"bash": {"7": "deny"}}}
    backend = make_backend(tmp_path, agent, roles=roles)
    with pytest.raises(InputError) as caught:
        await backend.prepare([])
    faults = [str(fault) for fault in caught.value.faults]
    assert len(faults) == 3
    assert any(fault.startswith(".opencode/agents/a.md:2: mode") for fault in faults)
    assert any("npm install -g opencode-ai@" in fault for fault in faults)
    assert any("agent.permission.bash" in fault for fault in faults)
    await backend.close()
    assert not (tmp_path / "data").exists()


async def test_a_server_of_the_users_is_used_and_left_running(house: House, tmp_path: Path) -> None:
    theirs = {"OPENCODE_SERVER_PASSWORD": house.address.password}
    backend = make_backend(tmp_path, {"url": house.address.url, "model": "scripted/m1"}, theirs, {
        ".opencode/agents/only-here.md": "---\nmodel: mine/u1\n---\nYou are only here.",
    })  # fmt: skip
    await backend.prepare([Need("only-here"), Need("implementation-specialist")])
    session: Any = backend.open(make_spec(tmp_path, "only-here"))
    assert (session.agent, session.model, session.system) == ("build", "mine/u1", "You are only here.")
    session = backend.open(make_spec(tmp_path, "implementation-specialist"))
    assert (session.agent, session.model, session.system) == ("implementation-specialist", "scripted/m1", "")
    assert backend.servers
    lease = await backend.servers.lease()
    assert (await lease.address()).group is None
    await backend.close()
    assert (await ask(house, "/global/health"))["healthy"]


async def test_a_server_of_the_users_with_another_password_is_refused(house: House, tmp_path: Path) -> None:
    backend = make_backend(tmp_path, {"url": house.address.url}, {"OPENCODE_SERVER_PASSWORD": "wrong"})
    with pytest.raises(InputError, match=r"agent.url: .* refuses the password: set OPENCODE_SERVER_PASSWORD"):
        await backend.prepare([])


async def test_a_server_of_the_users_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, {"url": f"http://127.0.0.1:{find_port()}"})
    with pytest.raises(InputError, match=r"agent.url: .* cannot be reached"):
        await backend.prepare([])


async def test_a_server_of_the_users_of_another_version_is_refused(tmp_path: Path) -> None:
    stand_in = Server(make_plan(tmp_path, make_fake_program(tmp_path)), 0)
    address = await stand_in.start()
    await stand_in.stop()
    plan = make_plan(tmp_path, make_fake_program(tmp_path), environment={"STAND_IN_VERSION": "1.17.0"})
    port = address.url.rpartition(":")[2]
    program = await asyncio.create_subprocess_exec(
        *plan.command, "--port", port, env=plan.environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert program.stdout
        assert b"listening" in await program.stdout.readline()
        with pytest.raises(InputError, match=r"is opencode 1\.17\.0; 1\.18\.33 or a later 1\.18 is required"):
            await make_backend(tmp_path, {"url": address.url}).prepare([])
    finally:
        program.kill()
        await program.wait()


NOWHERE = Catalog({"build": ""}, {"b": ("m1",), "a": ("m1",)}, "", {})


async def test_no_model_at_all_is_said_once() -> None:
    (fault,) = check_models([Need("build"), Need("plan")], lambda _role, model: model, NOWHERE)
    assert "no model is set: write `model: provider/model` below `agent`" in fault
    assert "a, b." in fault


async def test_a_provider_of_ones_own_that_nobody_answers_for_is_said_to_be_missing() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        here = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        catalog = Catalog({}, {}, "", {"here": here, "gone": f"http://127.0.0.1:{find_port()}/v1", "idle": "http://[x"})
        needs = [Need("a", "here/m"), Need("a", "gone/m"), Need("b", "gone/n"), Need("c", "official/m")]
        (fault,) = await check_reach(needs, lambda _role, model: model, catalog, {})
        assert fault.startswith("the provider gone cannot be reached at http://127.0.0.1:")
        assert await check_reach(needs, lambda _role, model: model, catalog, {"HTTPS_PROXY": "http://p"}) == []


async def test_tool_servers_that_give_no_tools_are_named_with_the_reason(tmp_path: Path) -> None:
    servers = {
        "silent": {"type": "local", "command": ["sleep", "600"], "timeout": 1000},
        "missing": {"type": "local", "command": ["no-such-program"]},
        "off": {"type": "local", "command": ["sleep", "600"], "enabled": False},
    }
    with ModelServer() as model:
        agent = with_model(model.url)
        backend = make_backend(tmp_path, {**agent, "config": {**agent["config"], "mcp": servers}})
        try:
            await backend.prepare([Need("implementation-specialist")])
            found = {server.name: server.reason for server in await backend.find_tool_servers()}
        finally:
            await backend.close()
    assert found.keys() == {"silent", "missing"}
    assert all(found.values())
    assert [*backend.durations] == ["program", "server", "roles and models", "providers", "MCP servers"]


async def test_repositories_keep_their_conversations_apart(tmp_path: Path) -> None:
    assert find_data(tmp_path, "/a/.git") != find_data(tmp_path, "/b/.git")
    assert find_data(tmp_path, "/a/.git").parent == tmp_path / "opencode"


async def test_an_address_that_is_configured_stands_above_the_one_that_opencode_lists() -> None:
    def list_models(*urls: str) -> dict[str, Any]:
        return {f"m{number}": {"api": {"url": url}} for number, url in enumerate(urls)}

    providers: dict[str, Any] = {
        "providers": [
            {"id": "listed", "models": list_models("https://a.example/v1", "https://a.example/v1")},
            {"id": "moved", "models": list_models("https://b.example/v1")},
            {"id": "mixed", "models": list_models("https://c.example/v1", "https://d.example/v1")},
            {"id": "silent", "models": {"m": {}}},
        ]
    }
    configuration = {"provider": {"moved": {"options": {"baseURL": "http://127.0.0.1:8080/v1"}}}}
    found = understand([], providers, configuration)
    assert found.addresses == {"listed": "https://a.example/v1", "moved": "http://127.0.0.1:8080/v1"}
