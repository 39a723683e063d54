"""A repository, an agent in sh, and a launcher without Prefect: the harness for tests that run nodes."""

import asyncio
import os
import signal
import uuid
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from new_repository import begin_repository
from sample_repository import SampleRepository

from tasks_lib.engine.report_summary import write_summary
from tasks_lib.engine.run_lifecycle import OpenRun, SpokeAccess, open_run
from tasks_lib.engine.scheduler import OpenNode, Scheduler
from tasks_lib.graph.run_plan import Plan
from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Outcome, Skipped
from tasks_lib.process.marked_processes import find_marked
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.status_board import RunView

HANG_SECONDS = 300.0
"""Not an assertion: it ends a test that would hang."""
PRELUDE = """\
set -e
J=$COORDINATOR_TASK_ID
case $J in */*) J=$(echo "$J" | tr / -) ;; esac
J={journal}/$J-$COORDINATOR_ATTEMPT-$COORDINATOR_TURN
now=
{{ read -r _ admin < .git && read -r _ now < "$admin/HEAD"; }} 2> /dev/null || :
[ "refs/heads/$COORDINATOR_BRANCH" = "$now" ] || J=$J-review$(ls {journal} | grep -c -- '-review.*prompt$' || :)
cat > "$J.prompt"
env > "$J.env"
pwd > "$J.cwd"
id=$COORDINATOR_TASK_ID attempt=$COORDINATOR_ATTEMPT turn=$COORDINATOR_TURN role=$COORDINATOR_ROLE
commit() {{ git add -A && git commit -q -m "$1"; }}
work() {{ case $id in */*) mkdir -p "${{id%/*}}" ;; esac; echo "$id" > "$id.txt"; commit "feat($id): write $id.txt"; echo "Wrote $id.txt."; }}
tell() {{ echo > "{signals}/$1"; }}
await() {{ read -r _ < "{signals}/$1"; }}
status() {{ sed -i "s/^status: .*/status: $1/" "$COORDINATOR_TASK_FILE"; }}
"""

During = Callable[[OpenRun], Coroutine[Any, Any, None]]
Tasks = Mapping[str, Mapping[str, Any]]


class Signal:
    """A fifo between a test and an agent, kept open at both ends so that only reads block."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def send(self, times: int = 1) -> None:
        os.write(self._descriptor, b"\n" * times)

    async def wait(self) -> None:
        """Return when the agent has signalled once more."""
        while not self._is_told():
            readable = asyncio.Event()
            asyncio.get_running_loop().add_reader(self._descriptor, readable.set)
            try:
                await readable.wait()
            finally:
                asyncio.get_running_loop().remove_reader(self._descriptor)

    def _is_told(self) -> bool:
        try:
            return bool(os.read(self._descriptor, 1))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(slots=True)
class RunResult:
    """The result of a run."""

    outcomes: Mapping[str, Outcome]
    launcher: "PlainLauncher"
    skips: Mapping[str, str]
    code: ExitCode
    view: RunView
    pending: str
    lines: Sequence[str]

    @property
    def started(self) -> list[str]:
        """The ids in the order in which they started."""
        return self.launcher.started

    @property
    def retries(self) -> list[tuple[str, str]]:
        """The ids and reasons of failed attempts that were followed by another."""
        return self.launcher.retries

    @property
    def names(self) -> dict[str, str]:
        return {task_id: outcome.name for task_id, outcome in self.outcomes.items()}


@dataclass(frozen=True, slots=True)
class Journal:
    """What the agent wrote down of its turns, by `<id>-<attempt>-<turn>`, in the directory `path`."""

    path: Path

    def read(self, name: str, kind: str = "prompt") -> str:
        """What is known of a turn: its `prompt`, environment (`env`) or directory (`cwd`)."""
        return (self.path / f"{name}.{kind}").read_text()

    def turns(self) -> list[str]:
        return sorted(path.stem for path in self.path.glob("*.prompt"))

    def variables(self, name: str) -> dict[str, str]:
        pairs = (line.partition("=") for line in self.read(name, "env").splitlines())
        return {key: value for key, _, value in pairs}


@dataclass(slots=True)
class RunHarness(SampleRepository):
    """A repository with task files and an agent in sh, in which a test does runs; signals connect the two."""

    signals: dict[str, Signal] = field(default_factory=dict[str, Signal])
    data: Path | None = None
    """Where backends store what they keep between runs."""
    hang_seconds: float = HANG_SECONDS
    spokes: SpokeAccess | None = None
    """How runs reach other machines."""

    @property
    def journal(self) -> Journal:
        return Journal(self.place / "journal")

    def make(
        self,
        tasks: Tasks,
        agent: str = "work",
        *,
        verify: Sequence[str] = (),
        signals: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        """Make the repository. `tasks` maps ids to front matter besides id, name and status; `agent` is the body of an
        sh script; `settings` go into coordinator.yaml."""
        for folder in (self.top, self.journal.path, self.place / "signals"):
            folder.mkdir()
        self.signals |= {name: Signal(self.place / "signals" / name) for name in signals}
        begin_repository(self.top)
        self.write_agent(agent)
        said = {
            "agent": self.describe_agent(),
            "verify": list(verify),
            "retry": {"attempts": 2, "delay_seconds": 0, "max_delay_seconds": 0},
            "safe_exit": {"resolver": "never"},
            **settings,
        }
        said["watch"] = {"stop_seconds": 2, **settings.get("watch", {})}
        made = {f"tasks/{task_id}.md": write_task(task_id, **about) for task_id, about in tasks.items()}
        self.commit("Begin", {"coordinator.yaml": yaml.safe_dump(said), "README.md": "# X\n", **made, **(files or {})})

    def describe_agent(self) -> dict[str, Any]:
        """The section `agent` of coordinator.yaml."""
        return {"command": ["sh", str(self.place / "agent.sh")]}

    def write_agent(self, body: str) -> None:
        prelude = PRELUDE.format(journal=self.journal.path, signals=self.place / "signals")
        (self.place / "agent.sh").write_text(prelude + body + "\n")

    async def work(
        self,
        *,
        only: Sequence[str] = (),
        max_sessions: int = 4,
        during: During | None = None,
        environment: Mapping[str, str] | None = None,
        at: Path | None = None,
        launcher: "PlainLauncher | None" = None,
        max_landings: int = 0,
    ) -> RunResult:
        """Do one run from opening to closing; `during` runs concurrently, `at` is the starting directory in place of `top`."""
        launcher = launcher or PlainLauncher()
        working = self._work(at or self.top, only, max_sessions, during, environment or {}, launcher, max_landings)
        return await asyncio.wait_for(working, self.hang_seconds)

    async def _work(
        self,
        at: Path,
        only: Sequence[str],
        max_sessions: int,
        during: During | None,
        environment: Mapping[str, str],
        launcher: "PlainLauncher",
        max_landings: int,
    ) -> RunResult:
        project = await asyncio.to_thread(load_project, at, environment, is_fetching=True)
        lines: list[str] = []
        name = f"run-{uuid.uuid4().hex[:6]}"
        async with open_run(project, name, max_sessions, data=self.data, spokes=self.spokes) as opened:
            opened.limit_landings(max_landings)
            opened.run.board.listen(lambda node_id, line: lines.append(f"{node_id}: {line}" if node_id else line))
            scheduler = Scheduler(opened, Plan(opened.run.nodes.graph, only), launcher)
            beside = asyncio.ensure_future(during(opened)) if during else None
            try:
                await work_beside(scheduler, beside)
                await write_summary(opened.run, scheduler.judge())
            finally:
                if beside:
                    beside.cancel()
            plan = scheduler.plan
        return RunResult(
            plan.outcomes, launcher, plan.skips(), scheduler.judge(), opened.run.board.view, opened.publisher.pending, lines
        )  # fmt: skip

    def close(self) -> None:
        for one in self.signals.values():
            one.close()


AnyHarness = TypeVar("AnyHarness", bound=RunHarness)


class PlainLauncher:
    """Runs nodes with asyncio alone; records its calls, and asserts that no node starts while a prerequisite runs."""

    def __init__(self) -> None:
        self.open: dict[str, OpenNode] = {}
        self.started: list[str] = []
        self.retries: list[tuple[str, str]] = []
        self.ended: list[str] = []
        self.shown: dict[str, Skipped | None] = {}

    async def start(self, node: OpenNode) -> None:
        assert self.open.keys().isdisjoint(node.task.depends_on), (
            f"{node.id} starts while what it depends on is at work"
        )
        self.started.append(node.id)
        self.open[node.id] = node
        try:
            await node.work()
        finally:
            del self.open[node.id]
            self.retries += [(node.id, reason) for reason in node.failures]

    async def end(self, node: OpenNode) -> None:
        self.ended.append(node.id)

    async def show(self, graph: Graph, endings: Mapping[str, Skipped | None]) -> None:
        self.shown.update(endings)


async def work_beside(scheduler: Scheduler, beside: "asyncio.Future[None] | None") -> None:
    """Run to the end; a failure of the test's own part ends the run, since an agent may be waiting for that part."""
    job = asyncio.ensure_future(scheduler.work())
    try:
        await asyncio.wait([job, *([beside] if beside else [])], return_when=asyncio.FIRST_EXCEPTION)
        if beside and beside.done():
            beside.result()
        await job
        if beside:
            await beside
    finally:
        job.cancel()
        await asyncio.wait([job])


def write_task(task_id: str, body: str = "", status: str = "pending", **front: Any) -> str:
    """A task file as people write them: a comment in the front matter, empty Notes, a checklist."""
    rows = yaml.safe_dump(front, sort_keys=False) if front else ""
    return (
        f"---\nid: {task_id}\nname: Do {task_id}  # by hand\nstatus: {status}\n{rows}---\n\n"
        f"## Description\n{body or 'Write it.'}\n\n## Acceptance Criteria\n- [ ] It is there\n\n## Notes\n\n## Summary\n"
    )


@contextmanager
def tidied(harness: AnyHarness) -> Generator[AnyHarness]:
    """Yield `harness`, and assert at the end that no process started by its runs is alive."""
    yield harness
    left = find_marked(REPOSITORY_MARKER, str((harness.top / ".git").resolve()))
    for process in left:
        os.kill(process.pid, signal.SIGKILL)
    harness.close()
    assert left == []


@contextmanager
def open_harness(place: Path) -> Generator[RunHarness]:
    """A harness for one repository, cleaned up at the end."""
    with tidied(RunHarness(place)) as made:
        yield made


async def until(is_so: Callable[[], bool]) -> None:
    """Poll until `is_so()`, for state without events, such as a ref or a lock."""
    while not is_so():  # noqa: ASYNC110 - There is no event to wait for.
        await asyncio.sleep(0.005)


async def reach(opened: OpenRun, line: str) -> None:
    """Return when the board reports `line`, such as `a: queued`."""
    found = asyncio.Event()

    def hear(node_id: str, said: str) -> None:
        if f"{node_id}: {said}".startswith(line):
            found.set()

    opened.run.board.listen(hear)
    await found.wait()
    opened.run.board.ignore(hear)
