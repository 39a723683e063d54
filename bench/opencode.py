"""Compares coordinator sessions of the real opencode, with a scripted model, to a driver that only prompts them."""

import asyncio
import json
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Never

import psutil
import yaml

from bench.bare_driver import drive
from bench.common import SHARED_MACHINE, TARGET_BRANCH, BrokenRunError, Field, coordinate, git
from bench.figures import judge
from flows.demo.model_script import Message, Step, choose_step, find_position
from flows.demo.model_server import ModelServer
from flows.demo.opencode_provider import MODEL, find_program, provider_config
from tasks_lib.agents.backend import Need
from tasks_lib.agents.opencode.backend import OpencodeBackend
from tasks_lib.settings.schema import DEFAULT_ROLE, Settings

SESSIONS, MANY = 20, 50
CALLS = 8
FILES = 50
ROUNDS = 2
WALL_TARGET, MEMORY_TARGET, CPU_TARGET = 1.15, 2.2, 0.10
SAMPLE_SECONDS = 0.2
GIGABYTE = 1e9


@dataclass(slots=True)
class Usage:
    """The highest memory seen, in bytes, and the CPU time of the coordinator and of opencode, in seconds.

    `start` is the part of the coordinator's CPU time before the first model call: Python, Prefect, the graph.
    """

    memory: int = 0
    coordinator: float = 0.0
    start: float = 0.0
    servers: float = 0.0


@dataclass(slots=True)
class Calls:
    """The times of the model calls; the answers are in the scripts."""

    times: list[float] = field(default_factory=list[float])

    def decide(self, messages: Sequence[Message]) -> Step:
        self.times.append(time.monotonic())
        step, _ = choose_step(find_position(messages), Counter())
        return step

    @property
    def wall(self) -> float:
        """Seconds from the first call to the last."""
        return self.times[-1] - self.times[0]


def run() -> str:
    """Run the sessions with the bare driver and the coordinator in turns, and compare; takes some minutes."""
    program = find_program(None)
    bare: list[float] = []
    ours: list[tuple[float, Usage]] = []
    for _ in range(ROUNDS):
        bare.append(measure_bare(program, SESSIONS))
        ours.append(measure_run(program, SESSIONS))
    lines = [
        f"opencode: {SESSIONS} sessions of {CALLS} model calls, each in its own worktree, from first call to last.",
        SHARED_MACHINE,
    ]
    walls, shares, memories = list[float](), list[float](), list[float]()
    for number, (floor, (wall, usage)) in enumerate(zip(bare, ours, strict=True), 1):
        walls.append(wall / floor)
        shares.append(usage.coordinator / usage.servers)
        memories.append(usage.memory / GIGABYTE)
        lines += [
            f"round {number}: bare driver {floor:.1f} s, `coordinator run` {wall:.1f} s: ratio {walls[-1]:.2f}",
            f"  memory of server and coordinator {memories[-1]:.2f} GB",
            f"  processor time: coordinator {usage.coordinator:.1f} s, opencode {usage.servers:.1f}: {shares[-1]:.3f}",
            f"    ({usage.start:.1f} s of the coordinator's before the first call)",
        ]
    lines += [
        f"median of the walls: {judge('opencode: wall over a bare driver', median(walls), WALL_TARGET)}",
        f"most memory: {judge('opencode: memory, GB', max(memories), MEMORY_TARGET)}",
        f"median of the shares: {judge('opencode: processor time over its own', median(shares), CPU_TARGET)}",
    ]
    wall, usage = measure_run(program, MANY)
    lines.append(
        f"{MANY} sessions at a time: all landed, {wall:.1f} s, memory {usage.memory / GIGABYTE:.2f} GB with the "
        "servers that it takes"
    )
    return "\n".join(lines)


def make_steps(name: str) -> list[dict[str, Any]]:
    """The steps of one session: read, write, run and commit, in `CALLS` answers of the model."""
    file = f"work-{name}.txt"
    commands = [*(f"ls | wc -l; echo {number}" for number in range(CALLS - 5))]
    looks = [_call("bash", command=command, description="Look") for command in commands]
    write = _call("write", filePath=file, content=f"{name}\n")
    commit = _call("bash", command=f"git add {file} && git commit -q -m 'Work {name}'", description="Commit")
    log = _call("bash", command="git log --oneline | head -3", description="Look")
    return [*looks, write, _call("read", filePath=file), commit, log, {"say": "It is written and committed."}]


def _call(tool: str, **args: str) -> dict[str, Any]:
    return {"tool": tool, "args": args}


def write_script(name: str) -> str:
    return f"Work {name}.\n\n```script\n{json.dumps(make_steps(name))}\n```\n"


def name_nodes(count: int) -> list[str]:
    return [f"node-{number:02}" for number in range(count)]


def configure(program: Path, url: str) -> dict[str, object]:
    return {
        "backend": "opencode",
        "command": [str(program)],
        "model": MODEL,
        "config": {"provider": provider_config(url)},
    }


# The floor.


def measure_bare(program: Path, count: int) -> float:
    """Seconds that `count` sessions take with a driver that only creates and prompts them, two starting at a time."""
    calls = Calls()
    with ModelServer(calls.decide) as model, lay_out_worktrees(count) as (home, worktrees):
        asyncio.run(_drive_bare(program, model.url, home, worktrees))
    if len(calls.times) != count * CALLS:
        raise BrokenRunError(f"the bare driver's sessions made {len(calls.times)} model calls of {count * CALLS}")
    return calls.wall


async def _drive_bare(program: Path, url: str, home: Path, worktrees: Sequence[Path]) -> None:
    """Drive the sessions on a server started as the coordinator would start it, so that both use the same."""
    settings = Settings.model_validate({"agent": configure(program, url)})
    environment = make_environment(home)
    backend = OpencodeBackend(settings, environment, home / "data", home, {}, home / "opencode.log", _open_nothing)
    try:
        await backend.prepare([Need(DEFAULT_ROLE)])
        assert backend.servers is not None
        lease = await backend.servers.lease(0)
        address = await lease.address()
        prompts = {worktree: write_script(worktree.name) for worktree in worktrees}
        await drive(address.url, address.password, DEFAULT_ROLE, MODEL, prompts)
        lease.leave()
    finally:
        await backend.close()


def _open_nothing(*_: object) -> Never:
    raise BrokenRunError("the backend opened a session, though the bare driver opens its own")


def make_environment(home: Path) -> dict[str, str]:
    """The server's environment: PATH, a home directory of its own, and the commit identity."""
    (home / "home").mkdir()
    person = {f"GIT_{who}_{what}": "bench@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {"PATH": os.environ["PATH"], "HOME": str(home / "home"), **person}


@contextmanager
def lay_out_worktrees(count: int) -> Generator[tuple[Path, list[Path]]]:
    """Yield a temporary directory and `count` worktrees of one repository in it."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        field_ = make_field(Path(name), "{}", 0)
        worktrees = [field_.home / "worktrees" / node for node in name_nodes(count)]
        for worktree in worktrees:
            git(field_.repository, "worktree", "add", "-q", "-b", worktree.name, str(worktree))
        yield field_.home, worktrees


# The coordinator.


def measure_run(program: Path, count: int) -> tuple[float, Usage]:
    """Seconds from the first to the last model call of a whole `coordinator run`, and the resources used."""
    calls = Calls()
    with ModelServer(calls.decide) as model, tempfile.TemporaryDirectory(prefix="bench-") as name:
        said = {"agent": configure(program, model.url), "review": {"when": "never"}}
        place = make_field(Path(name), yaml.safe_dump(said), count)
        usage = Usage()
        with sampling(usage, calls):
            coordinate(place, count)
    if len(calls.times) != count * CALLS:
        raise BrokenRunError(f"the run's sessions made {len(calls.times)} model calls of {count * CALLS}")
    return calls.wall, usage


def make_field(home: Path, configuration: str, count: int) -> Field:
    """Make a repository of `FILES` files with `count` independent tasks, whose texts contain their scripts."""
    place = Field(home, home / "repository", home / "agent")
    (place.repository / "tasks").mkdir(parents=True)
    for number in range(FILES):
        (place.repository / f"file-{number:02}.txt").write_text(f"This is file {number}.\n" * 10)
    for node in name_nodes(count):
        text = f"---\nid: {node}\nname: Work {node}\nstatus: pending\n---\n\n## Description\n{write_script(node)}"
        (place.repository / "tasks" / f"{node}.md").write_text(text)
    (place.repository / "coordinator.yaml").write_text(configuration)
    git(place.repository, "init", "-q", "-b", TARGET_BRANCH)
    git(place.repository, "config", "user.name", "Bench")
    git(place.repository, "config", "user.email", "bench@localhost")
    git(place.repository, "add", "-A")
    git(place.repository, "commit", "-q", "-m", "Begin")
    return place


@contextmanager
def sampling(usage: Usage, calls: Calls) -> Generator[None]:
    """Sample the processes below this one while the block runs."""
    is_over = threading.Event()

    def look() -> None:
        spent: dict[int, float] = {}
        while not is_over.wait(SAMPLE_SECONDS):
            sample(usage, spent)
            if not calls.times:
                usage.start = usage.coordinator

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        is_over.set()
        looking.join()


def sample(usage: Usage, spent: dict[int, float]) -> None:
    """Update `usage` with current memory and CPU time of the processes; `spent` maps opencode pids to CPU time."""
    memory = 0
    for process in psutil.Process().children():
        with_servers = [process, *find_servers(process)]
        for number, one in enumerate(with_servers):
            try:
                times = one.cpu_times()
                used = times.user + times.system
                memory += one.memory_info().rss
            except psutil.Error:
                continue
            if number == 0:
                usage.coordinator = max(usage.coordinator, used)
            else:
                memory += sum(_rss(child) for child in list_tools(one))
                spent[one.pid] = used
    usage.memory = max(usage.memory, memory)
    usage.servers = sum(spent.values())


def find_servers(coordinator: psutil.Process) -> list[psutil.Process]:
    """The opencode servers started by a coordinator."""
    return [one for one in _children(coordinator) if _is_server(one)]


def _is_server(process: psutil.Process) -> bool:
    try:
        words, leader = process.cmdline(), os.getpgid(process.pid)
    except (psutil.Error, OSError):
        return False
    return leader == process.pid and "serve" in words and "opencode" in Path(words[0]).name


def list_tools(server: psutil.Process) -> list[psutil.Process]:
    """The processes started by the server's tools, except those that have not yet called exec: until then, the
    server's memory, which they share, would count as their own.
    """
    found: list[psutil.Process] = []
    for child in _children(server):
        try:
            if child.exe() != server.exe():
                found.append(child)
        except psutil.Error:
            continue
    return found


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0
