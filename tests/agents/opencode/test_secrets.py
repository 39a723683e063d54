"""What an opencode agent can see of secrets: each line of docs/security.md, with the real program."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from opencode_scripts import give_short_catalog
from server_fixtures import find_carriers, make_backend, make_worktree, run_shell, use_tools, with_model

from flows.demo.model_server import ModelServer
from tasks_lib.agents.backend import Need
from tasks_lib.agents.opencode.config.shell_environments import Shells, name_file
from tasks_lib.agents.opencode.servers.server_interface import Address
from tasks_lib.agents.opencode.servers.server_pool import ServerPool

pytestmark = [
    pytest.mark.xdist_group("opencode"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc"),
]

KEY = "sk-of-the-provider"
LOGIN = "sk-of-the-users-login"
ROLES = {".opencode/agents/helper.md": "---\nmode: subagent\n---\nHelp."}


@dataclass(frozen=True)
class House:
    pool: ServerPool
    address: Address
    directory: Path

    @property
    def login(self) -> Path:
        return self.directory / "home" / ".local" / "share" / "opencode" / "auth.json"

    def make_worktree(self, name: str, **environment: str) -> Path:
        """Make a worktree in which shells have exactly `environment`, and a PATH."""
        worktree = make_worktree(self.directory, name)
        self.pool.write_shell_environment(worktree, {"PATH": os.environ["PATH"], **environment})
        return worktree


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[House]:
    directory = tmp_path_factory.mktemp("secrets")
    login = directory / "home" / ".local" / "share" / "opencode" / "auth.json"
    login.parent.mkdir(parents=True)
    login.write_text(json.dumps({"anthropic": {"type": "api", "key": LOGIN}}))
    give_short_catalog(directory / "home")
    with ModelServer() as model:
        backend = make_backend(directory, with_model(model.url, keys=["MY_*"]), {"MY_KEY": KEY}, ROLES)
        try:
            await backend.prepare([Need("implementation-specialist")])
            assert isinstance(backend.servers, ServerPool)
            yield House(backend.servers, await (await backend.servers.lease()).address(), directory)
        finally:
            await backend.close()
    assert find_carriers("COORDINATOR_REPOSITORY", str(directory)) == []


async def test_a_shell_has_the_environment_of_its_session_and_nothing_else(house: House) -> None:
    worktree = house.make_worktree("exact", COORDINATOR_TASK_ID="a/b", HOME="/somewhere")
    names = {line.split("=")[0] for line in (await run_shell(house.address, worktree, "env")).splitlines() if line}
    of_the_shell = {"PWD", "SHLVL", "_", "OLDPWD"}
    of_ours = {"COORDINATOR_SERVER", "COORDINATOR_REPOSITORY"}
    assert names - of_the_shell == {"PATH", "HOME", "COORDINATOR_TASK_ID"} | of_ours


async def test_a_turn_has_variables_of_its_own(house: House) -> None:
    worktree = house.make_worktree("turns", COORDINATOR_TURN="1")
    assert "turn 1" in await run_shell(house.address, worktree, "echo turn $COORDINATOR_TURN")
    house.pool.write_shell_environment(worktree, {"PATH": os.environ["PATH"], "COORDINATOR_TURN": "2"})
    assert "turn 2" in await run_shell(house.address, worktree, "echo turn $COORDINATOR_TURN")


async def test_a_role_for_subagents_can_have_a_session_too(house: House) -> None:
    worktree = house.make_worktree("helper", COORDINATOR_TURN="1")
    assert "turn 1" in await run_shell(house.address, worktree, "echo turn $COORDINATOR_TURN", "helper")


async def test_a_shell_that_nobody_has_spoken_for_has_neither_password_nor_keys(house: House) -> None:
    found = await run_shell(house.address, make_worktree(house.directory, "unknown"), "env")
    assert "PATH=" in found
    assert house.address.password not in found
    assert KEY not in found
    assert "OPENCODE" not in found
    assert "XDG_" not in found


async def test_a_file_of_variables_that_is_broken_opens_nothing(house: House) -> None:
    worktree = house.make_worktree("broken", SEEN="yes")
    file = house.directory / "private" / "opencode" / "shells" / name_file(str(worktree))
    await asyncio.to_thread(file.write_text, '{"PATH": "/usr')
    found = await run_shell(house.address, worktree, "env")
    assert "PATH=" in found
    assert house.address.password not in found
    assert KEY not in found


async def test_a_program_that_looks_for_the_servers_environment_finds_it(house: House) -> None:
    """This cannot be avoided, because it is the same user; docs/security.md says so."""
    assert house.address.group
    line = f"tr '\\0' '\\n' < /proc/{house.address.group.pid}/environ"
    found = await run_shell(house.address, house.make_worktree("proc"), line)
    assert house.address.password in found
    assert KEY in found


async def test_a_program_that_looks_for_logins_and_configuration_finds_them(house: House) -> None:
    """This cannot be avoided, because it is the same user; docs/security.md says so."""
    worktree = house.make_worktree("files")
    read = f"python3 -c \"print(open('{house.login}').read())\""
    assert LOGIN in await run_shell(house.address, worktree, read)
    configuration = house.directory / "private" / "opencode" / "configuration" / "opencode.json"
    read = f"python3 -c \"print(open('{configuration}').read())\""
    assert "provider" in await run_shell(house.address, worktree, read)


async def test_no_file_of_the_configuration_holds_a_secret(house: House) -> None:
    private = house.directory / "private" / "opencode"
    texts = {path: path.read_text() for path in (private / "configuration").rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if KEY in text or LOGIN in text or house.address.password in text]


async def test_tools_do_not_read_outside_the_worktree_nor_files_of_secrets(house: House) -> None:
    worktree = house.make_worktree("tools")
    (worktree / ".env").write_text("TOKEN=sk-of-the-project")
    steps = [
        {"tool": "read", "args": {"filePath": str(house.login)}},
        {"tool": "write", "args": {"filePath": str(house.directory / "outside.txt"), "content": "x"}},
        {"tool": "bash", "args": {"command": f"cat {house.login}", "description": "look"}},
        {"tool": "read", "args": {"filePath": str(worktree / ".env")}},
    ]
    states = await use_tools(house.address, worktree, steps)
    assert [state["status"] for state in states] == ["error"] * 4
    assert LOGIN not in json.dumps(states)
    assert "sk-of-the-project" not in json.dumps(states)
    assert not (house.directory / "outside.txt").exists()


async def test_it_is_no_sandbox(house: House) -> None:
    worktree = house.make_worktree("sandbox")
    line = f"python3 -c \"open('{house.directory}/written', 'w').write('x')\""
    await run_shell(house.address, worktree, line)
    assert (house.directory / "written").exists()


async def test_a_server_in_another_place_takes_nothing_of_the_users_data_but_logins(house: House) -> None:
    assert house.login.parent.joinpath("auth.json").is_file()
    assert [path.name for path in house.login.parent.iterdir()] == ["auth.json"]
    assert not (house.directory / "home" / ".config").exists()
    link = house.directory / "data" / "0" / "data" / "opencode" / "auth.json"
    assert link.is_symlink()


async def test_a_file_of_variables_is_whole_whenever_it_is_read(tmp_path: Path) -> None:
    shells = Shells(tmp_path / "shells")
    path = tmp_path / "shells" / name_file(str(tmp_path))
    shells.write(tmp_path, {"N": "0"})

    def write() -> None:
        for number in range(200):
            shells.write(tmp_path, {"N": str(number), "LONG": "x" * 100_000})

    writing = asyncio.create_task(asyncio.to_thread(write))
    while not writing.done():
        assert "N" in await asyncio.to_thread(lambda: json.loads(path.read_text()))
    await writing
    assert path.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
