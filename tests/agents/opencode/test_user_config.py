"""What a user's own opencode configuration refuses stays refused: every user place combined with every run place.

One real server for all: each place refuses its own word and allows those of all others, so every pair is covered.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from server_fixtures import Opened, find_carriers, make_backend, make_spec, make_worktree, use_tools, with_model

from flows.demo.model_server import ModelServer
from tasks_lib.agents.backend import Need
from tasks_lib.agents.opencode.backend import OpencodeBackend
from tasks_lib.agents.opencode.config.config_directory import write_stub
from tasks_lib.agents.opencode.config.user_config import SEEN
from tasks_lib.agents.opencode.servers.server_interface import Address
from tasks_lib.agents.opencode.servers.server_pool import ServerPool
from tasks_lib.agents.opencode.servers.server_process import connect
from tasks_lib.errors import InputError

pytestmark = [pytest.mark.xdist_group("opencode"), pytest.mark.asyncio(loop_scope="module")]

ROLE = "implementation-specialist"
THEIRS = (
    "config.json", "opencode.json", "OPENCODE_CONFIG", "OPENCODE_CONFIG_CONTENT", "OPENCODE_PERMISSION", "agent",
    "agent-file",
)  # fmt: skip
"""The user's places: for all agents, and for an agent with the name of a role, in two files."""
OURS = ("policy", "role")
"""The run's places: `agent.permission` in coordinator.yaml, and a role of the repository."""
PLACES = (*THEIRS, *OURS)


def word_of(place: str) -> str:
    return place.replace(".", "-").replace("_", "-").lower()


def section(place: str, **more: Any) -> dict[str, Any]:
    """Refuse `touch <place>`, and allow everything that the other side refuses. Within one side, opencode's order applies."""
    mine = THEIRS if place in THEIRS else (place,)
    others = {f"touch {word_of(other)}": "allow" for other in PLACES if other not in mine}
    return {"bash": {**others, f"touch {word_of(place)}": "deny"}, **more}


def write_theirs(directory: Path, url: str) -> dict[str, str]:
    """Write a user's configuration; return the variables that belong to it."""
    home = directory / "home" / ".config" / "opencode"
    write_stub(home)
    (home / "agent").mkdir()
    write_json(home / "config.json", {"permission": section("config.json"), "tools": {"websearch": False}})
    server = {"type": "local", "command": ["false"]}
    models: dict[str, Any] = {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": url}, "models": {"m1": {}}}
    write_json(
        home / "opencode.json",
        {
            "permission": section(
                "opencode.json", webfetch="deny", read={"*": "allow", "*.secret": "deny"}, glob="ask"
            ),
            "share": "auto",
            "autoupdate": True,
            "disabled_providers": ["refused"],
            "mcp": {"off": {**server, "enabled": False}, "on": server},
            "provider": {
                "refused": models,
                "theirs": models,
                "scripted": {"blacklist": ["m3"], "whitelist": ["m1", "m3"]},
            },
            "lsp": False,
            "agent": {
                ROLE: {"permission": section("agent"), "model": "theirs/m1", "hidden": True, "steps": 90},
                "architect": {"disable": True},
                "loose": {"permission": "allow", "prompt": "Do all.", "mode": "all"},
            },
        },
    )
    front = json.dumps({"permission": section("agent-file"), "description": "mine"})
    (home / "agent" / f"{ROLE}.md").write_text(f"---\n{front}\n---\nMine.\n")
    write_json(directory / "further.json", {"permission": section("OPENCODE_CONFIG")})
    return {
        "OPENCODE_CONFIG": str(directory / "further.json"),
        "OPENCODE_CONFIG_CONTENT": json.dumps({"permission": section("OPENCODE_CONFIG_CONTENT"), "snapshot": True}),
        "OPENCODE_PERMISSION": json.dumps(section("OPENCODE_PERMISSION")),
    }


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value))


@dataclass(frozen=True)
class House:
    backend: OpencodeBackend
    address: Address
    directory: Path
    worktree: Path

    async def get(self, path: str) -> Any:
        async with connect(self.address, 60) as client:
            answer: httpx.Response = await client.get(path, params={"directory": str(self.worktree)})
            return answer.raise_for_status().json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[House]:
    directory = tmp_path_factory.mktemp("theirs")
    role = json.dumps({"permission": section("role", webfetch="allow")})
    with ModelServer() as model:
        variables = write_theirs(directory, model.url)
        agent = with_model(model.url)
        agent["permission"] = section("policy", webfetch="allow")
        agent["config"] |= {
            "disabled_providers": ["refused-by-us"],
            "mcp": {"off": {"type": "local", "command": ["false"], "enabled": True}, "on": {"enabled": False}},
            "lsp": {"mine": {"command": ["false"], "extensions": [".x"]}},
        }
        models = agent["config"]["provider"]["scripted"]["models"]
        models |= {"m2": models["m1"], "m3": models["m1"]}
        agent["config"]["provider"]["scripted"]["whitelist"] = ["m1", "m2", "m3"]
        agent["config"]["provider"]["refused-by-us"] = agent["config"]["provider"]["scripted"]
        roles = {f".opencode/agents/{ROLE}.md": f"---\n{role}\n---\nOurs."}
        backend = make_backend(directory, agent, variables, roles)
        try:
            await backend.prepare([Need(ROLE)])
            assert isinstance(backend.servers, ServerPool)
            worktree = make_worktree(directory)
            backend.servers.write_shell_environment(worktree, {"PATH": "/usr/bin:/bin"})
            yield House(backend, await (await backend.servers.lease()).address(), directory, worktree)
        finally:
            await backend.close()
    assert find_carriers("COORDINATOR_REPOSITORY", str(directory)) == []


def bash(line: str) -> dict[str, Any]:
    return {"tool": "bash", "args": {"command": line, "description": "a line"}}


async def test_what_one_place_refuses_no_other_gives_back(house: House) -> None:
    states = await use_tools(house.address, house.worktree, [bash(f"touch {word_of(place)}") for place in PLACES])
    assert [state["status"] for state in states] == ["error"] * len(PLACES)
    (allowed,) = await use_tools(house.address, house.worktree, [bash("touch free")])
    assert allowed["status"] == "completed"
    assert sorted(path.name for path in house.worktree.iterdir()) == [".git", "free"]


async def test_an_agent_of_theirs_is_bound_by_the_policy_and_by_its_own_side(house: House) -> None:
    """A role's own rules override the user's for all agents, as in opencode itself; but they cannot loosen the run's policy."""
    lines = [bash(f"touch {word_of(place)}-loose") for place in ("policy", "free")]
    states = await use_tools(house.address, house.worktree, [bash("touch policy"), *lines], "loose")
    assert [state["status"] for state in states] == ["error", "completed", "completed"]


async def test_tools_that_a_person_refused_are_refused(house: House) -> None:
    (house.worktree / "x.secret").write_text("s")
    steps = [
        {"tool": "webfetch", "args": {"url": "http://127.0.0.1:9", "format": "text"}},
        {"tool": "read", "args": {"filePath": str(house.worktree / "x.secret")}},
        {"tool": "read", "args": {"filePath": str(house.worktree / ".git" / "HEAD")}},
    ]
    fetched, *states = await use_tools(house.address, house.worktree, steps)
    assert "unavailable tool 'webfetch'" in str(fetched.get("output"))
    assert [state["status"] for state in states] == ["error", "completed"]
    found = {agent["name"]: agent["permission"] for agent in await house.get("/agent")}
    actions = {rule["permission"]: rule["action"] for rule in found[ROLE] if rule["pattern"] == "*"}
    assert (actions["websearch"], actions["glob"]) == ("deny", "ask")


async def test_providers_models_and_servers_that_either_side_disabled_are_disabled(house: House) -> None:
    providers = {one["id"]: sorted(one["models"]) for one in (await house.get("/config/providers"))["providers"]}
    assert not {"refused", "refused-by-us"} & providers.keys()
    assert providers["theirs"] == ["m1"]
    assert providers["scripted"] == ["m1"]
    servers = await house.get("/mcp")
    assert {name: servers[name]["status"] for name in ("off", "on")} == {"off": "disabled", "on": "disabled"}


async def test_what_no_configuration_changes_is_as_it_was(house: House) -> None:
    found = await house.get("/config")
    assert [found[name] for name in ("share", "autoupdate", "snapshot", "lsp")] == ["disabled", False, False, False]


async def test_role_of_the_repository_stands_above_an_agent_of_the_same_name(house: House) -> None:
    found = next(agent for agent in await house.get("/agent") if agent["name"] == ROLE)
    assert found["prompt"] == "Ours."
    assert not found.get("hidden")
    assert found["steps"] == 90


async def test_model_that_the_repository_names_stands_above_that_of_an_agent_of_theirs(house: House) -> None:
    opened = house.backend.open(make_spec(house.directory, ROLE))
    assert isinstance(opened, Opened)
    assert opened.model == "scripted/m1"


async def test_agent_that_a_person_disabled_is_named(house: House) -> None:
    with pytest.raises(InputError, match="your own opencode configuration disables the agent with this name"):
        await house.backend.prepare([Need("architect")])


async def test_what_was_seen_is_gone_again(house: House) -> None:
    configuration = house.directory / "private" / "opencode" / "configuration"
    assert not (configuration / SEEN).exists()
