"""Runs seeded graphs with agents that misbehave, in virtual time with real git, and checks what is promised of each."""

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from bench.common import ROOT, git, set_identity
from bench.figures import judge
from bench.simulated_agents import BLOCKED, RETURNED, SHARED, Behaviour, Cast, Part, SimulatedBackend
from bench.virtual_time import EPOCH, VirtualTimeLoop, simulate
from tasks_lib.engine.run_lifecycle import OpenRun, Simulation, open_run
from tasks_lib.engine.scheduler import OpenNode, Scheduler
from tasks_lib.graph.run_plan import Plan
from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Outcome, OutcomeName, Skipped
from tasks_lib.project.loading import load_project

SEEDS = 500
FIRST_SEED = 20_000
NODES = (6, 14)
SESSIONS = (16, 4)
"""How many sessions at once: for even seeds one for each node, for odd ones fewer."""
STALL_SECONDS = 60.0
VERIFY_SECONDS = 3.0
DELAY_PERCENT = 5
"""How much later than without the blocked nodes an independent node may land, as a share of that run.

With a session for each node, this is asked of each run. With fewer it is asked of the mean: any change to one duration
may start the others in another order, which no order of starts without knowledge of the future can bound by 5 %
(Graham's anomalies).
"""
WEIGHTS: Mapping[Behaviour, int] = {
    Behaviour.WORKS: 30,
    Behaviour.CRASHES: 5,
    Behaviour.IDLES: 5,
    Behaviour.LITTERS: 5,
    Behaviour.STALLS_ONCE: 6,
    Behaviour.STALLS: 2,
    Behaviour.LOOPS: 5,
    Behaviour.RED_ONCE: 6,
    Behaviour.RED: 2,
    Behaviour.CONFLICTS: 14,
    Behaviour.REVIEWED: 6,
    Behaviour.REFUSED: 2,
    Behaviour.ASKS: 6,
    Behaviour.ASKS_IN_VAIN: 3,
    Behaviour.NEEDS_PERSON: 3,
}
CHECK = """\
#!/bin/sh
# Waits for the simulation, then is red if a file is marked as broken or holds the marks of a conflict.
mkfifo "$1/go-$$"
echo $$ > "$1/asks"
read -r _ < "$1/go-$$"
rm "$1/go-$$"
! grep -nE '^(BROKEN|<<<<<<< |>>>>>>> )' ./*.txt
"""


@dataclass(frozen=True, slots=True)
class Plot:
    """What a seed stands for: the graph, a part for each node, and outages (start, end) in virtual seconds."""

    edges: Mapping[str, tuple[str, ...]]
    parts: Mapping[str, Part]
    outages: tuple[tuple[float, float], ...]
    sessions: int

    def without_blocks(self) -> "Plot":
        """The same with every blocked node at work instead."""
        calm = {one: replace(part, behaviour=_calm(part.behaviour)) for one, part in self.parts.items()}
        return replace(self, parts=calm)


def _calm(behaviour: Behaviour) -> Behaviour:
    return Behaviour.WORKS if behaviour in BLOCKED else behaviour


@dataclass(frozen=True, slots=True)
class Played:
    """How a seed's run ended. `faults` are broken promises, `ended_at` when each node ended, in virtual seconds."""

    seed: int
    faults: tuple[str, ...]
    outcomes: Mapping[str, OutcomeName]
    ended_at: Mapping[str, float]
    turns: int
    limited: int
    sessions: int
    behaviours: tuple[Behaviour, ...]
    delay: float = 0.0
    """The largest delay of a node independent of the blocked ones, as a share of the run without them."""


def run() -> str:
    """Run every seed; takes about a quarter of an hour on two cores."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        played = list(pool.map(play, range(FIRST_SEED, FIRST_SEED + SEEDS), chunksize=5))
    return describe(played)


def describe(played: Sequence[Played]) -> str:
    """The figures, and every broken promise with its seed."""
    seen = Counter(one for each in played for one in each.behaviours)
    ends = Counter(name for each in played for name in each.outcomes.values())
    faults = [f"  seed {each.seed}: {fault}" for each in played for fault in each.faults]
    lines = [
        f"Seeds: {len(played)} runs of {NODES[0]} to {NODES[1]} nodes, in virtual time, with real git",
        f"nodes: {', '.join(f'{count} {one}' for one, count in seen.most_common())}",
        f"outcomes: {', '.join(f'{count} {name}' for name, count in ends.most_common())}",
        f"turns: {sum(each.turns for each in played)}, ended by a limit: {sum(each.limited for each in played)}",
        f"broken promises: {len(faults)}, {judge('seeds: broken promises', len(faults), 0)}",
        *faults[:50],
        *(_describe_delays(played, sessions) for sessions in SESSIONS),
    ]
    return "\n".join(lines)


def _describe_delays(played: Sequence[Played], sessions: int) -> str:
    delays = [each.delay for each in played if each.sessions == sessions and BLOCKED & set(each.behaviours)]
    mean, worst = statistics.fmean(delays or [0]), max(delays, default=0.0)
    told = (
        f"delay of independent nodes by blocked ones, {sessions} sessions ({len(delays)} runs): "
        f"mean {mean:.1%}, at most {worst:.1%}"
    )
    kind, share = ("worst", worst) if sessions >= max(NODES) else ("mean", mean)
    return (
        f"{told}, {judge(f'seeds: delay by blocked nodes, {sessions} sessions, {kind}, %', 100 * share, DELAY_PERCENT)}"
    )


def play(seed: int) -> Played:
    """Run the graph of a seed, check it, and run it again without its blocked nodes to compare."""
    plot = draw(seed)
    played = _play(seed, plot)
    if not BLOCKED & {part.behaviour for part in plot.parts.values()} or played.faults:
        return played
    calm = _play(seed, plot.without_blocks())
    return replace(played, delay=_find_delay(plot, played, calm), faults=played.faults + calm.faults)


def draw(seed: int) -> Plot:
    """Draw the graph of a seed."""
    draws = random.Random(seed)
    names = [f"n{number}" for number in range(draws.randint(*NODES))]
    edges = {
        name: tuple(draws.sample(names[:number], min(number, draws.choice((0, 0, 1, 1, 2)))))
        for number, name in enumerate(names)
    }
    behaviours = draws.choices(list(WEIGHTS), list(WEIGHTS.values()), k=len(names))
    seconds = [round(draws.lognormvariate(3.0, 0.5), 1) for _ in names]
    parts = {name: Part(*drawn) for name, drawn in zip(names, zip(behaviours, seconds, strict=True), strict=True)}
    start = draws.uniform(10, 120)
    outages = ((start, start + draws.uniform(20, 200)),) if draws.random() < 0.3 else ()
    return Plot(edges, parts, outages, SESSIONS[seed % len(SESSIONS)])


def _find_delay(plot: Plot, played: Played, calm: Played) -> float:
    blocked = {one for one, part in plot.parts.items() if part.behaviour in BLOCKED}
    for name, above in plot.edges.items():  # Prerequisites come first.
        if blocked.intersection(above):
            blocked.add(name)
    independent = [one for one in plot.edges if one not in blocked and one in played.ended_at and one in calm.ended_at]
    whole = max(calm.ended_at.values(), default=1.0)
    return max((played.ended_at[one] - calm.ended_at[one] for one in independent), default=0.0) / whole


def _play(seed: int, plot: Plot) -> Played:
    with _lay_out(plot) as home:
        before = _run_checker("snapshot", str(home / "repository"))
        cast, launcher, faults = simulate(lambda loop: _work(loop, plot, home))
        faults += _find_wrong_outcomes(plot, launcher)
        faults += _check(home, before, launcher)
        faults += _find_lost_commits(home, cast)
        outcomes = {one: outcome.name for one, outcome in launcher.outcomes.items()}
        behaviours = tuple(part.behaviour for part in plot.parts.values())
        return Played(
            seed, tuple(faults), outcomes, launcher.ended_at, cast.turns, cast.limited, plot.sessions, behaviours
        )


@contextmanager
def _lay_out(plot: Plot) -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-seed-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        top = home / "repository"
        (top / "tasks").mkdir(parents=True)
        os.mkfifo(home / "asks")
        (home / "check.sh").write_text(CHECK)
        (top / SHARED).write_text("begin\n")
        for node, above in plot.edges.items():
            risk = "risk: high\n" if plot.parts[node].behaviour in RETURNED else ""
            front = f"id: {node}\nname: Work {node}\nstatus: pending\ndepends_on: [{', '.join(above)}]\n{risk}"
            body = "## Description\nWork.\n\n## Acceptance Criteria\n- [ ] It is there\n"
            (top / "tasks" / f"{node}.md").write_text(f"---\n{front}---\n\n{body}")
        (top / "coordinator.yaml").write_text(yaml.safe_dump(_configure(home)))
        git(top, "init", "-q", "-b", "main")
        set_identity(top)
        git(top, "add", "-A")
        git(top, "commit", "-q", "-m", "Begin")
        yield home


def _configure(home: Path) -> dict[str, object]:
    return {
        "agent": {"command": ["simulated"]},
        "verify": [f"sh {home}/check.sh {home}"],
        "safe_exit": {"resolver": "always"},
        "retry": {"attempts": 3, "delay_seconds": 2, "max_delay_seconds": 10},
        "watch": {"stall_seconds": STALL_SECONDS, "suspend_seconds": 30, "memory_mb": 0, "free_memory_mb": 0},
    }


class _Launcher:
    """Runs nodes without Prefect; knows when each ended, in virtual seconds."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop: VirtualTimeLoop = loop
        self.ended_at: dict[str, float] = {}
        self.outcomes: dict[str, Outcome] = {}

    async def start(self, node: OpenNode) -> None:
        await node.work()
        self.ended_at[node.id] = self._loop.time()

    async def end(self, node: OpenNode) -> None:
        pass

    async def show(self, graph: Graph, endings: Mapping[str, Skipped | None]) -> None:
        pass


async def _work(loop: VirtualTimeLoop, plot: Plot, home: Path) -> tuple[Cast, _Launcher, list[str]]:
    outages = [(EPOCH + start, EPOCH + end) for start, end in plot.outages]
    cast = Cast(plot.parts, outages, STALL_SECONDS, loop.wall_clock)
    launcher = _Launcher(loop)
    project = await asyncio.to_thread(load_project, home / "repository", {})
    verifying = asyncio.create_task(_pace_verify(loop, home))
    try:
        simulation = Simulation(SimulatedBackend(cast), loop.wall_clock)
        async with open_run(project, "seed", plot.sessions, simulation=simulation) as opened:
            scheduler = Scheduler(opened, Plan(opened.run.nodes.graph), launcher)
            await scheduler.work()
            launcher.outcomes |= {**scheduler.plan.outcomes}
            for one, why in scheduler.plan.skips().items():
                launcher.outcomes[one] = Skipped(why)
            return cast, launcher, _find_repeats(opened)
    finally:
        verifying.cancel()


async def _pace_verify(loop: VirtualTimeLoop, home: Path) -> None:
    """Let every `verify` take its virtual seconds."""
    asks = os.open(home / "asks", os.O_RDWR | os.O_NONBLOCK)
    heard: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(asks, lambda: [heard.put_nowait(pid) for pid in os.read(asks, 4096).decode().split()])
    pending: set[asyncio.Task[None]] = set()
    try:
        while True:
            task = asyncio.create_task(_pace(loop, home / f"go-{await heard.get()}"))
            pending.add(task)
            task.add_done_callback(pending.discard)
    finally:
        loop.remove_reader(asks)
        os.close(asks)


async def _pace(loop: VirtualTimeLoop, answer: Path) -> None:
    with loop.idling():
        await asyncio.sleep(VERIFY_SECONDS)
    await asyncio.to_thread(answer.write_text, "go\n")


def _find_repeats(opened: OpenRun) -> list[str]:
    repeated = opened.run.nodes.dispatches.repeated
    return [f"{repeated} attempts began with nothing new"] if repeated else []


def _find_wrong_outcomes(plot: Plot, launcher: _Launcher) -> list[str]:
    """Nodes that ended otherwise than their agents' behaviour means."""
    faults: list[str] = []
    failing: set[str] = set()
    for node, above in plot.edges.items():
        blocks = plot.parts[node].behaviour in BLOCKED
        wanted = OutcomeName.BLOCKED if blocks else OutcomeName.MERGED
        wanted = OutcomeName.SKIPPED if failing.intersection(above) else wanted
        if wanted is not OutcomeName.MERGED:
            failing.add(node)
        outcome = launcher.outcomes.get(node)
        if outcome is None or outcome.name is not wanted:
            faults.append(f"{node}, which {plot.parts[node].behaviour}, ended as {outcome}, not {wanted}")
    return faults


def _check(home: Path, before: str, launcher: _Launcher) -> list[str]:
    """What the independent checker finds in the repository."""
    (home / "before.json").write_text(before)
    statuses = {"Merged": "completed", "Blocked": "blocked"}
    meant: dict[str, str] = {}
    for path in git(home / "repository", "ls-tree", "--name-only", "main", "tasks/").splitlines():
        node = Path(path).stem
        outcome = launcher.outcomes.get(node)
        meant[node] = statuses.get(outcome.name if outcome else "", "pending")
    about = {"statuses": meant, "verify": ["! grep -nE '^(BROKEN|<<<<<<< |>>>>>>> )' ./*.txt"]}
    (home / "meant.json").write_text(json.dumps(about))
    told = _run_checker("check", str(home / "repository"), str(home / "before.json"), str(home / "meant.json"))
    return [line for line in told.splitlines() if line != "Every promise was kept."]


def _run_checker(*arguments: str) -> str:
    words = [sys.executable, str(ROOT / "tests" / "checker.py"), *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _find_lost_commits(home: Path, cast: Cast) -> list[str]:
    kept = set(git(home / "repository", "rev-list", "--all").split())
    return [f"the commit {one[:12]} is on no ref" for one in cast.commits if one not in kept]


if __name__ == "__main__":
    print(run())
