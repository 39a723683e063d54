"""Compares the cost of a node in a graph of a thousand to that in one of a hundred, and measures what a run leaves."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median

import psutil

from bench.common import SHARED_MACHINE, Edges, Field, coordinate, describe_machine, git, lay_out
from bench.figures import judge
from bench.overhead import draw_graph, find_start
from flows.server_sharing import read_running
from tasks_lib.git.repository import Repository

SESSIONS = 64
FEW, MANY = 100, 1_000
FEW_ROUNDS = 3
"""Runs of the small graph, before and after the large one, since the machine's speed changes in between."""
FILES = 4_000
"""Files at the start of both graphs, task files included: git's work for a worktree grows with files, not with nodes.

Each node adds one more; starting with this many keeps that small compared to the graph's size.
"""
TARGET_RATIO = 1.25
TARGET_MB = 400.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Gauge:
    """Follows a coordinator and its server: their last CPU seconds and peak memory.

    `begun` is the coordinator's own CPU seconds when the first agent started; `used` and `server_used` are the last
    seen; peaks are in bytes.
    """

    place: Field
    pid: int = 0
    begun: float = -1.0
    used: float = 0.0
    peak: int = 0
    server_begun: float = 0.0
    server_used: float = 0.0
    server_peak: int = 0

    def start(self, pid: int) -> None:
        self.pid = pid

    def look(self) -> None:
        """Read the figures; a process that has exited keeps its last ones."""
        server = read_running(self.place.home / "data" / "prefect")
        self.used, self.peak = _read_process(self.pid, self.used, self.peak)
        if server:
            self.server_used, self.server_peak = _read_process(server.pid, self.server_used, self.server_peak)
        if self.begun < 0 and self.place.count_began():
            self.begun, self.server_begun = self.used, self.server_used


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run cost per node, in milliseconds: wall time, CPU time of the coordinator's own process and the server.

    `peak` and `server_peak` are in bytes; `growth` maps the name of what a run leaves to its total bytes.
    """

    nodes: int
    wall: float
    own: float
    server: float
    peak: int
    server_peak: int
    growth: dict[str, int] = field(default_factory=dict[str, int])


def run() -> str:
    """Run both graphs; takes about five minutes."""
    few = [measure(FEW)]
    many = measure(MANY)
    few += [measure(FEW) for _ in range(FEW_ROUNDS - 1)]
    wall, own = (getattr(many, name) / median(getattr(one, name) for one in few) for name in ("wall", "own"))
    wall_verdict = judge(f"scale: wall a node, {MANY} over {FEW}", wall, TARGET_RATIO)
    own_verdict = judge(f"scale: processor a node, {MANY} over {FEW}", own, TARGET_RATIO)
    memory_verdict = judge(f"scale: memory at {MANY} nodes, MB", _mb(many.peak), TARGET_MB)
    lines = [
        (
            f"Scale: random graphs, {SESSIONS} sessions, agents that only commit, no verify, "
            f"{FILES} files to begin with, task files included. {describe_machine()}"
        ),
        SHARED_MACHINE,
        *(tell(one) for one in (*few, many)),
        (
            f"a node of {MANY} over a node of {FEW} (median of {FEW_ROUNDS}): wall {wall:.2f}, {wall_verdict}; "
            f"coordinator's processor {own:.2f}, {own_verdict}"
        ),
        (
            f"peak memory of the coordinator at {MANY} nodes: {_mb(many.peak):.0f} MB, "
            f"{memory_verdict}; of Prefect's server beside it {_mb(many.server_peak):.0f} MB"
        ),
        f"exit 0, every node landed, and nothing left, at {FEW} and at {MANY} nodes",
        "what stays, bytes a node: " + ", ".join(f"{name} {size / MANY:.0f}" for name, size in many.growth.items()),
    ]
    return "\n".join(lines)


def tell(cost: Cost) -> str:
    return (
        f"{cost.nodes:>5} nodes: {cost.wall:.0f} ms wall a node; coordinator {cost.own:.1f} ms and server "
        f"{cost.server:.1f} ms of a core a node, peaks {_mb(cost.peak):.0f} and {_mb(cost.server_peak):.0f} MB"
    )


def measure(nodes: int) -> Cost:
    """Run a graph of `nodes` nodes once. Raises AssertionError if it leaves anything."""
    edges = draw_graph(nodes)
    with lay_out(edges, FILES - nodes) as place:
        gauge = Gauge(place)
        before = _size_of(place.repository / ".git")
        view = coordinate(place, SESSIONS, gauge.look, gauge.start)
        check_nothing_left(place, edges)
        seconds = datetime.fromisoformat(view.ended).timestamp() - find_start(place, edges)
        return Cost(
            nodes,
            1000 * seconds / nodes,
            1000 * (gauge.used - gauge.begun) / nodes,
            1000 * (gauge.server_used - gauge.server_begun) / nodes,
            gauge.peak,
            gauge.server_peak,
            find_growth(place, before),
        )


def check_nothing_left(place: Field, edges: Edges) -> None:
    """Check that every node is on the target and that the repository has no leftovers; raises AssertionError if not."""
    top = place.repository
    landed = git(top, "log", "--first-parent", "--format=%(trailers:key=Task,valueonly)").split()
    left: list[object] = [
        *(set(edges) ^ set(landed)),
        *git(top, "for-each-ref", "--format=%(refname)").splitlines()[1:],
        *git(top, "worktree", "list").splitlines()[1:],
        *(path for path in (top / ".worktrees", Repository.open(top).state_dir / ".trash") if path.exists()),
        *find_processes(str(place.home)),
    ]
    if left:
        raise AssertionError(f"the run has left: {left[:20]}")


def find_processes(home: str) -> Sequence[str]:
    """The command lines of living processes that mention a path below `home`."""
    deadline = time.monotonic() + 30
    while True:
        lines = [" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline", "cwd"])]
        found = [line for line in lines if home in line]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)  # Processes that got a signal need a moment to exit.


def find_growth(place: Field, before: int) -> dict[str, int]:
    """Bytes that the run added, by name; `git gc` packs git's part when the user runs it."""
    state = place.repository / ".git" / "coordinator"
    logs, view = _size_of(state / "logs"), _size_of(state / "run.json")
    return {
        "git": _size_of(place.repository / ".git") - before - _size_of(state),
        "logs": logs,
        "run.json": view,
        "Prefect's database": _size_of(place.home / "data" / "prefect"),
    }


def _size_of(path: Path) -> int:
    """The size in bytes of a file, or of all files below a directory."""
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def _read_process(pid: int, used: float, peak: int) -> tuple[float, int]:
    """CPU seconds and peak memory in bytes of a process; `used` and `peak` if it has exited."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return used, peak
    high = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    return max(used, (int(fields[11]) + int(fields[12])) / _TICKS), max(peak, high)


def _mb(size: int) -> float:
    return size / 1_000_000


if __name__ == "__main__":
    print(run())
