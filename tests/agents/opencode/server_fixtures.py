"""Shared by the tests of opencode servers: a user's directories, plans, and a way to let an agent use its tools."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
from opencode_scripts import FEW_SESSIONS, find_opencode, provider_config, scripted

from tasks_lib.agents.backend import Session, SessionSpec
from tasks_lib.agents.opencode.backend import OpencodeBackend
from tasks_lib.agents.opencode.config.config_directory import write_configuration, write_stub
from tasks_lib.agents.opencode.servers.server_interface import Address, ServerSource
from tasks_lib.agents.opencode.servers.server_process import ServerPlan, connect
from tasks_lib.settings.schema import Settings

SECONDS = 120.0

STAND_IN = """\
import http.server, json, os, sys
if "--version" in sys.argv:
    sys.exit(print("1.18.33"))
port = int(sys.argv[sys.argv.index("--port") + 1])
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"healthy": True, "version": os.environ.get("STAND_IN_VERSION", "1.18.33")}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
        if os.environ.get("STAND_IN_DIES"):
            self.wfile.flush(); os._exit(9)
    def do_POST(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer)
print(f"opencode server listening on http://127.0.0.1:{port}", flush=True)
server.serve_forever()
"""
"""A program that starts like opencode in a tenth of the time, for tests that do not depend on its answers."""


def make_fake_program(directory: Path) -> tuple[str, ...]:
    program = directory / "stand_in.py"
    program.write_text(STAND_IN)
    return (sys.executable, str(program))


def make_user(directory: Path) -> dict[str, str]:
    """An empty home directory, and the variables that a server may see there."""
    home = directory / "home"
    home.mkdir(exist_ok=True)
    return {"PATH": os.environ["PATH"], "HOME": str(home), "COORDINATOR_REPOSITORY": str(directory), **FEW_SESSIONS}


def make_plan(
    directory: Path,
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    wrapper: tuple[str, ...] = (),
) -> ServerPlan:
    configuration = directory / "configuration"
    write_configuration(configuration, {"opencode.json": "{}"})
    write_stub(configuration)
    variables = {**make_user(directory), **(environment or {})}
    program = tuple(command) or (str(find_opencode()),)
    log = directory / "opencode.log"
    return ServerPlan(program, variables, directory / "data", configuration, log, stop_seconds=5.0, wrapper=wrapper)


def make_worktree(directory: Path, name: str = "worktree") -> Path:
    worktree = directory / name
    worktree.mkdir()
    subprocess.run(["git", "init", "-q", str(worktree)], check=True)
    return worktree


class Opened:
    """Records what a backend would open, in place of a session."""

    def __init__(self, spec: SessionSpec, servers: ServerSource, agent: str, model: str, system: str) -> None:
        self.spec: SessionSpec = spec
        self.agent: str = agent
        self.model: str = model
        self.system: str = system


def make_spec(directory: Path, role: str, model: str = "") -> SessionSpec:
    return SessionSpec(
        session="s", role=role, task_id="a", task_file="tasks/a.md", branch="feat/a", slot=0, cwd=directory,
        environment={}, log=directory / "log", prompt_directory=directory, turn_seconds=60, stop_seconds=5, model=model,
    )  # fmt: skip


def open_nothing(spec: SessionSpec, servers: ServerSource, agent: str, model: str, system: str) -> Session:
    return Opened(spec, servers, agent, model, system)  # type: ignore[return-value]


def make_backend(
    directory: Path,
    agent: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
) -> OpencodeBackend:
    settings = Settings.model_validate({"agent": {"backend": "opencode", **agent}, "watch": {"stop_seconds": 5}})
    variables = {**make_user(directory), **(environment or {})}
    places = (directory / "data", directory / "private")
    return OpencodeBackend(settings, variables, *places, roles or {}, directory / "opencode.log", open_nothing)


def with_model(url: str, **more: Any) -> dict[str, Any]:
    config = {"provider": provider_config(url)}
    return {"command": [str(find_opencode())], "model": "scripted/m1", "config": config, **more}


async def use_tools(
    address: Address, worktree: Path, steps: Sequence[dict[str, Any]], agent: str = "implementation-specialist"
) -> list[dict[str, Any]]:
    """Let an agent in `worktree` take `steps`; return the state of each tool call: `status`, `output`, `error`."""
    where = {"directory": str(worktree)}
    async with connect(address, SECONDS) as client:
        made = await client.post("/session", params=where, json={"title": "a test", "agent": agent})
        session = made.raise_for_status().json()["id"]
        body = {"agent": agent, "parts": [{"type": "text", "text": scripted(steps)}]}
        (await client.post(f"/session/{session}/message", params=where, json=body)).raise_for_status()
        messages = (await client.get(f"/session/{session}/message", params=where)).json()
    return [part["state"] for message in messages for part in message["parts"] if part["type"] == "tool"]


async def run_shell(address: Address, worktree: Path, line: str, agent: str = "implementation-specialist") -> str:
    """Return what a line prints in an agent's shell, or the error that the agent gets instead."""
    step = {"tool": "bash", "args": {"command": line, "description": "a line"}}
    (state,) = await use_tools(address, worktree, [step], agent)
    return str(state.get("output") or state.get("error"))


async def is_answered(address: Address) -> bool:
    async with connect(address, 5) as client:
        try:
            return (await client.get("/global/health")).is_success
        except httpx.HTTPError:
            return False


def find_carriers(name: str, value: str) -> list[psutil.Process]:
    """Return the processes whose environment has `name` set to `value`."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
