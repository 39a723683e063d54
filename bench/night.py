"""Runs a graph through a night without anybody: two quotas used up, a reboot, and an outage; counts what that cost."""

import contextlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import psutil

from bench.common import ROOT, BrokenRunError, Edges, Field, describe_machine, git, lay_out, stop
from bench.figures import judge
from bench.overhead import draw_graph

NODES = 100
SESSIONS = 8
FILES = 500
QUOTA_SECONDS = 10
OUTAGE_SECONDS = 20
LOOK_SECONDS = 0.1
DEADLINE_SECONDS = 1_800
TARGET_LOST = 1
"""Turns that a session may lose: those that began, did not end in a limit, and were not the last one."""
AGENT = """
echo "$id" >> "$home/turns"
if [ "$(git log -1 --format=%s)" = "Work $id" ]; then exit 0; fi
read -r until < "$home/quota"
if [ "$(date +%s)" -lt "$until" ]; then
    echo "$id" >> "$home/refused"
    coordinator notify --level limit --until "$until" "the quota is used up"
    exit 75
fi
if [ -e "$home/outage" ]; then
    echo "$id" >> "$home/refused"
    exit 75
fi
sleep 0.3
"""


@dataclass(frozen=True, slots=True)
class Night:
    """What a night cost: `lost` are the lost turns by node, `redone` the nodes that began again after landing."""

    runs: int
    refused: int
    lost: Mapping[str, int]
    redone: frozenset[str]
    attempts: Counter[str]


def run() -> str:
    """Run one night; takes about five minutes."""
    night = measure(NODES)
    most = max(night.lost.values(), default=0)
    lines = [
        (
            f"Night: {NODES} nodes, {SESSIONS} sessions, two quotas of {QUOTA_SECONDS} s, everything killed once, and "
            f"an outage of {OUTAGE_SECONDS} s. {describe_machine()}"
        ),
        f"exit 0 in the last of {night.runs} runs, no blocked node; turns ended by a limit: {night.refused}",
        f"attempts by number: {dict(sorted(night.attempts.items()))}",
        (
            f"sessions that lost a turn: {len(night.lost)} of {NODES}, at most {most} each, "
            f"{judge('night: lost turns of a session', most, TARGET_LOST)}"
        ),
        f"landed and begun again: {len(night.redone)}, {judge('night: landed and begun again', len(night.redone), 0)}",
    ]
    return "\n".join(lines)


def measure(nodes: int) -> Night:
    """Run a graph of `nodes` nodes through a night. Raises BrokenRunError unless it ends by itself, all landed."""
    edges = draw_graph(nodes)
    with lay_out(edges, FILES, pause=AGENT) as place:
        (place.home / "quota").write_text("0\n")
        redone: set[str] = set()
        _run_until(place, nodes * 2 // 5, _exhaust_quota(place, nodes // 5), redone)
        _kill_everything(place)
        _finish(place, nodes, redone)
        return _count(place, edges, redone)


def _exhaust_quota(place: Field, landed: int) -> Callable[[int], None]:
    """Use the quota up once that many nodes have landed."""
    pending = [landed]

    def look(now_landed: int) -> None:
        if pending and now_landed >= pending[0]:
            pending.clear()
            (place.home / "quota").write_text(f"{int(time.time()) + QUOTA_SECONDS}\n")

    return look


def _run_until(place: Field, landed: int, look: Callable[[int], None], redone: set[str]) -> None:
    process = _start(place)
    for names in _follow(place, process, redone):
        look(len(names))
        if len(names) >= landed:
            return


def _finish(place: Field, nodes: int, redone: set[str]) -> None:
    """Run to the end, with a second quota and an outage on the way."""
    process, exhaust = _start(place), _exhaust_quota(place, nodes * 3 // 5)
    outage, ends_at = place.home / "outage", 0.0
    try:
        for names in _follow(place, process, redone):
            exhaust(len(names))
            if not ends_at and len(names) >= nodes * 4 // 5:
                outage.touch()
                ends_at = time.time() + OUTAGE_SECONDS
            if ends_at and time.time() > ends_at:
                outage.unlink(missing_ok=True)
    finally:
        stop(process)
    if process.returncode or not ends_at:
        tail = (place.home / "coordinator.log").read_text(errors="replace")[-2000:]
        raise BrokenRunError(f"`coordinator run` exited with {process.returncode}; its output ends:\n{tail}")


def _follow(place: Field, process: "subprocess.Popen[bytes]", redone: set[str]) -> Iterator[frozenset[str]]:
    """Yield the landed nodes again and again while the process runs; note those that begin once more."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise BrokenRunError(f"the night did not end within {DEADLINE_SECONDS} seconds")
        names = _list_landed(place)
        before = Counter(_read_lines(place, "turns"))
        yield names
        time.sleep(LOOK_SECONDS)
        begun = Counter(_read_lines(place, "turns")) - before
        redone |= set(begun) & names
    yield _list_landed(place)


def _start(place: Field) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "GIT_"))}
    environment |= {"COORDINATOR_DATA_DIR": str(place.home / "data"), "PYTHONDONTWRITEBYTECODE": "1"}
    with (place.home / "runs").open("a") as runs:
        runs.write("run\n")
    with (place.home / "coordinator.log").open("ab") as sink:
        words = [sys.executable, "-m", "flows.cli", "run", str(place.repository), "--max-sessions", str(SESSIONS)]
        return subprocess.Popen(
            words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
        )


def _kill_everything(place: Field) -> None:
    """Kill the coordinator, its server, the agents and git at once, as a reboot does."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            told = [*process.cmdline(), process.cwd(), *process.environ().values()]
            if process.pid != os.getpid() and any(str(place.home) in one for one in told):
                process.kill()


def _list_landed(place: Field) -> frozenset[str]:
    # By their commits: a ref may be gone by the time its history is read.
    heads = ("refs/coordinator/queue", "refs/heads/main")
    refs = git(place.repository, "for-each-ref", "--format=%(objectname)", *heads)
    log = git(place.repository, "log", "--first-parent", "--format=%(trailers:key=Task,valueonly)", *refs.splitlines())
    return frozenset(log.split())


def _read_lines(place: Field, name: str) -> list[str]:
    path = place.home / name
    return path.read_text().split() if path.exists() else []


def _count(place: Field, edges: Edges, redone: set[str]) -> Night:
    merges = git(place.repository, "log", "--first-parent", "--format=%(trailers:key=Task,valueonly)", "main").split()
    if sorted(merges) != sorted(edges):
        raise BrokenRunError(f"not every node landed exactly once: {Counter(merges) - Counter(edges)}")
    attempts = git(place.repository, "log", "--first-parent", "--format=%(trailers:key=Attempt,valueonly)", "main")
    turns, refused = Counter(_read_lines(place, "turns")), Counter(_read_lines(place, "refused"))
    lost = {node: count for node in edges if (count := turns[node] - refused[node] - 1) > 0}
    runs = len(_read_lines(place, "runs"))
    return Night(runs, refused.total(), lost, frozenset(redone), Counter(attempts.split()))


if __name__ == "__main__":
    print(run())
