"""A run's repository, a shared git remote, and machines of sessions, joined without Prefect by plain asyncio."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from run_harness import RunHarness, RunResult, Tasks, tidied

from tasks_lib.engine.run_lifecycle import SpokeAccess
from tasks_lib.errors import RemoteError
from tasks_lib.git.remote_sessions.session_remote import SESSION_REFS
from tasks_lib.git.remote_sessions.session_repository import create_session_repository
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.process.marked_processes import find_marked
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.session.remote_messages import (
    HubMessage,
    Progress,
    SessionOrder,
    StopOrder,
    TurnOrder,
    TurnReport,
    read_hub_message,
    read_order,
    read_progress,
    read_report,
    write_message,
)
from tasks_lib.session.spending import Allowance
from tasks_lib.spokes.hub_identity import HubIdentity
from tasks_lib.spokes.link import Machine, News
from tasks_lib.spokes.machine import SpokeMachine
from tasks_lib.spokes.registered_remote import RegisteredRemote

RELEASE = "1.2.3"


@dataclass(slots=True)
class HostedRun:
    """What stands for a flow run of a session: its messages by key, and what it has published."""

    order: SessionOrder
    machine: str
    messages: dict[str, HubMessage] = field(default_factory=dict[str, HubMessage])
    queue: asyncio.Queue[HubMessage] = field(default_factory=asyncio.Queue[HubMessage])
    news: News = field(default_factory=News)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    job: asyncio.Task[None] | None = None
    is_dead: bool = False
    reachable: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> HubMessage:
        message = await self.queue.get()
        await self.reachable.wait()
        return message

    async def publish(self, *, progress: Progress | None = None, report: TurnReport | None = None) -> None:
        if report:  # It is repeated until the server has it; progress is not.
            await self.reachable.wait()
        if not self.reachable.is_set():
            return
        news = replace(self.news, silent_seconds=0.0, pulse=f"{self.news.number + 1}")
        if progress:
            news = replace(news, progress=read_progress(write_message(progress)))
        if report:
            news = replace(news, report=read_report(write_message(report)))
        if not self.is_dead:
            await self.change(news)

    async def change(self, news: News) -> None:
        async with self.changed:
            self.news = replace(news, number=self.news.number + 1)
            self.changed.notify_all()


class DirectLink:
    """Joins runs and machines in one event loop; every message passes through its JSON."""

    def __init__(self) -> None:
        self.machines: dict[str, SpokeMachine] = {}
        self.offline: set[str] = set()
        self.runs: dict[str, HostedRun] = {}
        self.stopped: list[str] = []
        self.lines: list[str] = []
        self.limits: dict[int, tuple[Allowance, ...]] = {}
        """Allowances of turns by number, in place of what the run's budgets say."""

    async def start(self, order: SessionOrder, machine: str) -> str:
        name = f"{order.hub}-{order.session}-{order.generation}"
        if name not in self.runs:
            run = HostedRun(read_order(write_message(order)), machine)
            run.reachable.set()
            self.runs[name] = run
            run.job = asyncio.create_task(self._host(run), name=name)
        return name

    async def _host(self, run: HostedRun) -> None:
        ended = "its flow run was Completed"
        try:
            await self.machines[run.machine].host(run.order, run, self.lines.append)
        except asyncio.CancelledError:
            ended = "its worker was killed"
        except Exception as error:
            self.lines.append(f"{error!r}")
            raise
        await run.change(replace(run.news, ended=ended))

    async def send(self, run: str, key: str, message: HubMessage) -> None:
        found = self.runs.get(run)
        if found is None:
            raise RemoteError(f"there is no flow run {run}")
        if isinstance(message, TurnOrder):
            message = replace(message, allowances=self.limits.get(message.turn, message.allowances))
        if key not in found.messages:
            found.messages[key] = read_hub_message(write_message(message))
            found.queue.put_nowait(found.messages[key])

    async def next_news(self, run: str, seen: int) -> News:
        found = self.runs.get(run)
        if found is None:
            return News(ended="its flow run does not exist any more")
        async with found.changed:
            while found.news.number <= seen and not found.news.ended:
                await found.changed.wait()
            return found.news

    async def stop(self, run: str) -> None:
        self.stopped.append(run)
        found = self.runs[run]
        found.queue.put_nowait(StopOrder(is_last=True))
        await found.change(replace(found.news, ended="its flow run is Cancelled"))

    async def list_sessions(self, hub: str) -> Sequence[tuple[str, str]]:
        hosted = [(run.order, name) for name, run in self.runs.items() if not run.news.ended]
        return [(order.session, name) for order, name in hosted if order.hub == hub]

    async def list_machines(self) -> Sequence[Machine]:
        return [Machine(name, name not in self.offline) for name in self.machines]

    def drain(self, run: HostedRun) -> None:
        """End a session as its worker does when it is stopped."""
        assert run.job
        run.job.cancel()

    def kill(self, run: HostedRun) -> None:
        """End a session whose report does not reach the run any more."""
        assert run.job
        run.is_dead = True
        run.job.cancel()

    async def close(self) -> None:
        jobs = [run.job for run in self.runs.values() if run.job]
        for run in self.runs.values():
            run.reachable.set()
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        for machine in self.machines.values():
            await machine.close()


async def lose(link: DirectLink, run: HostedRun) -> None:
    """Cut the machine of a session off once it was heard of, and let the time pass until it counts as lost."""
    async with run.changed:
        while not run.news.progress:
            await run.changed.wait()
    run.reachable.clear()
    link.offline.add(run.machine)
    await run.change(replace(run.news, silent_seconds=1e6))


def find(link: DirectLink, run: HostedRun) -> None:
    """Connect the machine of a lost session again."""
    run.reachable.set()
    link.offline.discard(run.machine)


@dataclass(slots=True)
class SpokeHarness(RunHarness):
    """A repository whose sessions run on machines of their own, each with its own copy and data directory."""

    link: DirectLink = field(default_factory=DirectLink)
    names: Sequence[str] = ("north",)

    @property
    def remote(self) -> Git:
        return Git(self.place / "remote.git")

    def make(self, tasks: Tasks, agent: str = "work", **settings: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        spokes = {"remote": "origin", "prefer": "only", **settings.pop("spokes", {})}
        RunHarness.make(self, tasks, agent, spokes=spokes, **settings)
        place = self.place / "remote.git"
        place.mkdir()
        Git(place).run("init", "--quiet", "--bare", "--initial-branch=main")
        self.git.run("remote", "add", "origin", str(place))
        self.git.run("push", "--quiet", "origin", "main")
        for name in self.names:
            self.add_machine(name)
        self.spokes = SpokeAccess(self.link, RELEASE)

    async def work(self, **options: Any) -> RunResult:  # pyright: ignore[reportIncompatibleMethodOverride]
        is_over = False
        try:
            result = await RunHarness.work(self, **options)
            is_over = True
            return result
        finally:  # A session that was given up, and that nobody hears, would keep the test from ending.
            for run in self.link.runs.values():
                if run.news.ended or not is_over:
                    run.reachable.set()

    def place_of(self, machine: str) -> Path:
        """The copy of the remote on a machine."""
        return self.place / machine / "spokes" / "remote.git"

    def add_machine(self, name: str) -> None:
        create_session_repository(self.place_of(name), str(self.place / "remote.git"))
        private = self.place / name / "private"
        private.mkdir()
        registered = {"remote": RegisteredRemote(self.place_of(name), "main")}
        self.link.machines[name] = SpokeMachine(
            name, RELEASE, lambda: registered, self.place / name, private, lambda line: None
        )

    def begin_sessions(self, *sessions: str) -> str:
        """Let the repository remember that it began these sessions; return its name on the remote."""
        hub = HubIdentity(Repository.open(self.top))
        for session in sessions:
            hub.add(session)
        return hub.name

    def list_left(self, machine: str) -> list[str]:
        """What sessions left on a machine: worktrees, branches, processes."""
        place = self.place_of(machine)
        git = Git(place)
        worktrees = git.text("worktree", "list", "--porcelain").split("\n\n")[1:]
        branches = git.text("for-each-ref", "--format=%(refname)", "refs/heads", "refs/coordinator").splitlines()
        processes = [str(process) for process in find_marked(REPOSITORY_MARKER, str(place.resolve()))]
        return [*(one for one in worktrees if one), *branches, *processes]

    def list_published(self) -> list[str]:
        """The refs of sessions that are on the remote."""
        return self.remote.text("for-each-ref", "--format=%(refname)", SESSION_REFS).splitlines()


@contextmanager
def open_spokes(place: Path, names: Sequence[str] = ("north",)) -> Generator[SpokeHarness]:
    """A harness with machines of these names, cleaned up at the end."""
    with tidied(SpokeHarness(place, names=names)) as made:
        yield made
