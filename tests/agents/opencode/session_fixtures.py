"""Shared by the session tests: real servers with a scripted model, worktrees, and sessions whose views are recorded."""

import asyncio
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from opencode_scripts import MODEL, QUICK_START, find_opencode, give_short_catalog, provider_config, scripted

from flows.demo.model_server import Decide, ModelServer
from tasks_lib.agents.backend import Session, SessionSpec, SessionView, TurnEnd, TurnSpec
from tasks_lib.agents.opencode.config.config_directory import make_configuration, write_configuration
from tasks_lib.agents.opencode.config.roles import Role
from tasks_lib.agents.opencode.config.shell_environments import Shells
from tasks_lib.agents.opencode.servers.server_interface import ServerSource
from tasks_lib.agents.opencode.servers.server_pool import ServerPool
from tasks_lib.agents.opencode.servers.server_process import ServerPlan
from tasks_lib.agents.opencode.turns.session_adapter import OpencodeSession, SessionLimits, Shared
from tasks_lib.process.process_table import Claim, Row, find
from tasks_lib.settings.schema import Settings

PATIENCE = 300.0
"""Seconds after which a test stops waiting for an event; far more than any needs."""
ROLE = "worker"
GIT = {
    name: value
    for person in ("AUTHOR", "COMMITTER")
    for name, value in ((f"GIT_{person}_NAME", "A"), (f"GIT_{person}_EMAIL", "a@example.org"))
}
STEADY = SessionLimits(stall_seconds=60, tool_seconds=60)


class Watcher:
    """Records the views of a session, and lets a test wait for one."""

    def __init__(self) -> None:
        self.views: list[SessionView] = []
        self.end: TurnEnd | None = None
        """How the last turn ended; None while one runs, and before the first."""
        self._wake: asyncio.Event = asyncio.Event()

    def __call__(self, view: SessionView) -> None:
        self.views.append(view)
        self._wake.set()

    def note_end(self, end: TurnEnd | None) -> None:
        self.end = end
        self._wake.set()

    async def wait_for(self, predicate: Callable[[SessionView], bool]) -> SessionView:
        """Return the first view that fits; fails if the turn ends without one."""
        await asyncio.sleep(0)  # Lets a turn begin that was started just now.
        async with asyncio.timeout(PATIENCE):
            while not (found := [view for view in self.views if predicate(view)]):
                assert self.end is None, f"{self.end} after {[view.activity for view in self.views]}"
                self._wake.clear()
                await self._wake.wait()
        return found[0]


class Opened:
    """A session with its worktree, and the views of it."""

    def __init__(self, session: Session, spec: SessionSpec, watcher: Watcher, conversations: list[str]) -> None:
        self.session: Session = session
        self.spec: SessionSpec = spec
        self.watcher: Watcher = watcher
        self.conversations: list[str] = conversations
        self.turns: int = 0

    async def do(self, steps: Sequence[dict[str, Any]]) -> TurnEnd:
        return await self.prompt(f"Do this.\n\n{scripted(steps)}")

    async def prompt(self, text: str) -> TurnEnd:
        self.turns += 1
        self.watcher.note_end(None)
        async with asyncio.timeout(PATIENCE):
            end = await self.session.prompt(text, TurnSpec(1, self.turns, "0" * 40))
        self.watcher.note_end(end)
        return end

    @property
    def log(self) -> str:
        return self.spec.log.read_text()

    @property
    def left(self) -> list[Row]:
        """Return the processes that carry the session's marker."""
        return find(Claim((), self.spec.session, is_watched=False))

    def git(self, *words: str) -> str:
        return run_git(self.spec.cwd, *words)

    def make_bell(self) -> Path:
        """A pipe in the worktree: writing into it wakes `hear`."""
        path = self.spec.cwd / "bell"
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        return path

    async def hear(self, bell: Path) -> str:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.to_thread(bell.read_text)


class SessionFixture:
    """Servers of one test module."""

    def __init__(self, directory: Path, model: ModelServer, servers: ServerSource) -> None:
        self.directory: Path = directory
        self.model: ModelServer = model
        self.servers: ServerSource = servers
        self.shared: Shared = Shared()
        self._opened: list[Opened] = []

    def open(
        self,
        *,
        limits: SessionLimits = STEADY,
        servers: ServerSource | None = None,
        shared: Shared | None = None,
        agent: str = ROLE,
        model: str = MODEL,
        like: Opened | None = None,
        is_fresh: bool = False,
        **changes: Any,
    ) -> Opened:
        """Open a session in the shared worktree, because opening one takes seconds, or in a fresh one, or that of `like`."""
        watcher, conversations, name = Watcher(), list[str](), f"test-{uuid.uuid4().hex}"
        spec = SessionSpec(
            session=name,
            role=agent,
            task_id="alpha",
            task_file="tasks/alpha.md",
            branch="feat/alpha",
            slot=0,
            cwd=like.spec.cwd if like else self._make_worktree(name if is_fresh else "worktree"),
            environment={**GIT, "PATH": os.environ["PATH"], "HOME": str(self.directory), "LANG": "C.UTF-8"},
            log=self.directory / f"{name}.log",
            prompt_directory=self.directory / "prompts",
            turn_seconds=240,
            stop_seconds=5,
            on_view=watcher,
            on_conversation=conversations.append,
        )
        spec = replace(spec, **changes)
        session = OpencodeSession(spec, servers or self.servers, limits, shared or self.shared, agent, model)
        opened = Opened(session, spec, watcher, conversations)
        self._opened.append(opened)
        return opened

    def _make_worktree(self, name: str) -> Path:
        directory = self.directory / name
        return directory if directory.exists() else make_worktree(directory)

    async def kill_server(self) -> None:
        """Kill the server, as the system does when memory runs out."""
        lease = await self.servers.lease(0)
        address = await lease.address()
        assert address.group is not None
        os.kill(address.group.pid, signal.SIGKILL)
        lease.leave()

    async def close(self) -> None:
        opened, self._opened = self._opened, []
        await asyncio.gather(*(one.session.close() for one in opened))


def run_git(directory: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=directory, env={**os.environ, **GIT}, check=True, capture_output=True)
    return done.stdout.decode().strip()


def make_worktree(directory: Path) -> Path:
    directory.mkdir()
    run_git(directory, "init", "-q", "-b", "main")
    run_git(directory, "commit", "-q", "--allow-empty", "-m", "Begin")
    return directory


@asynccontextmanager
async def open_lab(
    directory: Path, *, sessions_per_server: int = 25, decide: Decide | None = None, outside: str = "ask"
) -> AsyncGenerator[SessionFixture]:
    """A lab whose servers are started by its first session and stopped at the end; `decide` as `ModelServer` has it.

    `outside` is what opencode does about work outside of the worktree.
    """
    program = find_opencode()
    give_short_catalog(directory)
    with ModelServer(decide) as model:
        settings = Settings.model_validate(
            {
                "agent": {
                    "backend": "opencode",
                    "model": MODEL,
                    "config": {"provider": provider_config(model.url), "enabled_providers": ["scripted"]},
                    "permission": {"external_directory": outside, "question": "allow"},
                }
            }
        )
        role = Role(ROLE, "You work.", {"description": "works", "mode": "primary"})
        shells = Shells(directory / "shells")
        files = make_configuration(settings, {ROLE: role}, shells=str(shells.directory), keep=["PATH", "HOME"])
        write_configuration(directory / "configuration", files)
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8", **QUICK_START}
        log = directory / "server.log"
        plan = ServerPlan((str(program),), environment, directory / "data", directory / "configuration", log, 5.0)
        pool = ServerPool(
            plan, shells, directory / "password", "a password of the test", sessions_per_server=sessions_per_server
        )
        lab = SessionFixture(directory, model, pool)
        try:
            yield lab
        finally:
            await lab.close()
            await pool.close()
    shutil.rmtree(directory, ignore_errors=True)


def bash(command: str, **more: Any) -> dict[str, Any]:
    return {"tool": "bash", "args": {"command": command, "description": "run it", **more}}


def delegate(steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    prompt = f"Do this.\n\n{scripted(steps)}"
    return {"tool": "task", "args": {"description": "help", "prompt": prompt, "subagent_type": "general"}}
