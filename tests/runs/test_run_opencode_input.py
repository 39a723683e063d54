"""Errors of a run that cannot use opencode as configured, raised before it creates anything; and the user's server."""

import json
import os
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from checker import Meant, check, snapshot_user_state
from e2e.opencode_harness import OpencodeHarness, commit, describe_opencode, node, read_system
from opencode_scripts import find_opencode

from tasks_lib.agents.opencode.config.config_directory import write_configuration, write_stub
from tasks_lib.agents.opencode.servers.server_interface import Address
from tasks_lib.agents.opencode.servers.server_process import Server, ServerPlan, connect, find_port
from tasks_lib.errors import CoordinatorError, InputError
from tasks_lib.reporting.run_report import ExitCode

pytestmark = pytest.mark.xdist_group("opencode")
PASSWORD = "a password of the person's"
ROLE = ".opencode/agents/implementation-specialist.md"


async def refuse(oc: OpencodeHarness, agent: Mapping[str, Any], **settings: Any) -> str:
    """Return the error of a run that cannot start, and assert that it leaves nothing."""
    oc.agent = dict(agent)
    oc.make({"a": node(commit("a"))}, **settings)
    with pytest.raises(CoordinatorError) as caught:
        await oc.work()
    assert isinstance(caught.value, InputError)
    assert oc.leftovers() == []
    assert oc.find_remains() == []
    assert oc.model.requests == []
    return str(caught.value)


async def test_opencode_that_is_not_on_path(oc: OpencodeHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [place for place in os.environ["PATH"].split(":") if not os.access(f"{place}/opencode", os.X_OK)]
    monkeypatch.setenv("PATH", ":".join(places))
    said = await refuse(oc, {"command": []})
    assert said.startswith("`opencode` is not on PATH")
    assert "npm install -g opencode-ai@1.18.33" in said


async def test_opencode_of_another_version(oc: OpencodeHarness) -> None:
    program = oc.place / "other"
    program.write_text("#!/bin/sh\necho 9.9.9\n")
    program.chmod(0o755)
    said = await refuse(oc, {"command": [str(program)]})
    assert f"`{program}` is opencode 9.9.9; 1.18.33 or a later 1.18 is required" in said


async def test_opencode_at_a_relative_path_is_that_of_the_repository(oc: OpencodeHarness) -> None:
    said = await refuse(oc, {"command": ["./tools/opencode"]}, files={"tools/opencode": "not a program\n"})
    assert said.startswith(f"`{oc.top}/tools/opencode` is not an executable file")


async def test_unknown_roles_and_models_and_a_provider_that_is_not_there_are_all_said_at_once(
    oc: OpencodeHarness,
) -> None:
    nowhere = f"http://127.0.0.1:{find_port()}/v1"
    agent = {**describe_opencode(nowhere), "model": "scripted/m9"}
    said = await refuse(oc, agent, roles={"implementation": "implementer"}, files={"tasks/b.md": TASK})
    assert "coordinator.yaml: roles: the role implementer is not available: no role has this name" in said
    assert "Available roles: architect, build, code-reviewer" in said
    wrong = "coordinator.yaml: agent.model: the model scripted/m9 is not available: scripted has no model of this name"
    assert f"{wrong}; its models: m1, m2." in said
    assert "tasks/b.md:5: model: the model elsewhere/m1 is not available: there is no usable provider elsewhere" in said
    assert f"the provider scripted cannot be reached at {nowhere}: Connection refused; check that it is running" in said


TASK = "---\nid: b\nname: Do b\nstatus: pending\nmodel: elsewhere/m1\n---\n\n## Description\nDo it.\n"


async def test_a_role_with_broken_front_matter_is_named_by_file_and_line(oc: OpencodeHarness) -> None:
    text = "---\ndescription: works\nmode: primery\npermission:\n  bash: maybe\n---\nWork.\n"
    said = await refuse(oc, {}, files={ROLE: text})
    assert f"{ROLE}:3: mode is" in said
    assert f"{ROLE}:5: permission.bash is" in said


async def test_an_address_where_nobody_listens(oc: OpencodeHarness) -> None:
    url = f"http://127.0.0.1:{find_port()}"
    said = await refuse(oc, {"url": url})
    assert said.startswith(f"coordinator.yaml: agent.url: opencode's server at {url} cannot be reached")


@asynccontextmanager
async def serving(oc: OpencodeHarness) -> AsyncGenerator[Address]:
    """A server started by the user, with the user's own configuration."""
    place = oc.place / "person"
    write_configuration(
        place / "configuration", {"opencode.json": json.dumps(describe_opencode(oc.model.url)["config"])}
    )
    write_stub(place / "configuration")
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    command = (str(find_opencode()),)
    plan = ServerPlan(command, environment, place / "data", place / "configuration", place / "server.log")
    server = Server(plan, 0, PASSWORD)
    try:
        yield await server.start()
    finally:
        await server.stop()
        shutil.rmtree(place, ignore_errors=True)


async def test_a_persons_server_is_worked_with_and_left_as_it_was(
    oc: OpencodeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(oc) as address, connect(address, 60) as client:
        where = {"directory": str(oc.place / "home")}
        mine = (await client.post("/session", params=where, json={"title": "mine"})).json()["id"]
        agent = {"url": address.url}
        monkeypatch.setenv("OPENCODE_SERVER_PASSWORD", "another password")
        said = await refuse(oc, agent)
        assert "refuses the password: set OPENCODE_SERVER_PASSWORD" in said

        monkeypatch.setenv("OPENCODE_SERVER_PASSWORD", PASSWORD)
        before = snapshot_user_state(oc.top)
        worked = await oc.work()

        assert worked.code is ExitCode.COMPLETED
        assert check(oc.top, before=before, meant=Meant({"a": "completed"})) == []
        assert "You are an implementation specialist" in read_system(oc.requests("a")[0])
        assert (await client.get("/global/health")).json()["healthy"]
        found = (await client.get(f"/session/{mine}", params=where)).json()
        assert found["title"] == "mine"
        assert (await client.get("/session/status", params={"directory": str(oc.top)})).json() == {}
