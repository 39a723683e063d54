"""Records what real process trees do, as small files, and makes whole turns of them for `bench.watch`.

`python -m bench.watch_traces` records them anew, into `bench/traces`.
"""

import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.common import ROOT
from tasks_lib.agents.command_watch import MAX_INTERVAL_SECONDS
from tasks_lib.process.process_activity import take_sample
from tasks_lib.process.process_groups import GroupId, run_group
from tasks_lib.process.process_table import MARKER, Claim
from tasks_lib.session.liveness import ProcessSample, Sample

TRACES = Path(__file__).resolve().parent / "traces"
RECORDED_SECONDS = 20.0
SAMPLE_SECONDS = 0.5
IN_A_TERMINAL = "import pty, sys, time; pty.spawn(sys.argv[1:], stdin_read=lambda fd: time.sleep(999))"


@dataclass(frozen=True, slots=True)
class Step:
    """What happens in one interval: seconds of processor time, bytes, bytes of output, and who is there."""

    own: float = 0.0
    reaped: float = 0.0
    data: float = 0.0
    output: int = 0
    has_tool: bool = False
    waits: bool = False


def _terminal(*command: str) -> list[str]:
    return [sys.executable, "-ESc", IN_A_TERMINAL, *command]


def list_trees(place: Path) -> Mapping[str, tuple[bool, Sequence[str]]]:
    """Each real tree by name: whether it is healthy, and its command."""
    body = "for (int i = 0; i < {0}; i++) x = x * x + {0}; return x;"
    source = "\n".join(f"double f{n}(double x) {{ {body.format(n)} }}" for n in range(40_000))
    (place / "large.c").write_text(source + "\nint main(void) { return 0; }\n", "utf-8")
    hung = (
        "import socket; server = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(server.getsockname()).recv(1)"
    )
    tests = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "tests/core"]
    return {
        "pytest": (True, tests),
        "a compiler": (True, ["gcc", "-O2", "-c", str(place / "large.c"), "-o", str(place / "large.o")]),
        "a pager": (False, _terminal("less", "/etc/services")),
        "an editor": (False, _terminal("vi", str(place / "notes.txt"))),
        "a password prompt": (False, _terminal(sys.executable, "-ESc", "import getpass; getpass.getpass()")),
        "a hung socket": (False, [sys.executable, "-ESc", hung]),
        "a loop that polls": (False, ["sh", "-c", "while [ ! -e /nonexistent/flag ]; do sleep 0.5; done"]),
    }


def is_installed(command: Sequence[str]) -> bool:
    inner = command[3] if command[2:3] == [IN_A_TERMINAL] else command[0]
    return shutil.which(inner) is not None


async def follow(command: Sequence[str], place: Path, seconds: float, interval: float) -> Sequence[Sample]:
    """Run a tree for at most so long, and return its samples; it is ended then."""
    log, samples = place / "log", list[Sample]()
    log.unlink(missing_ok=True)
    marker, groups = f"bench-{os.getpid()}-{time.monotonic_ns()}", list[GroupId]()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", MARKER: marker}
    running = asyncio.create_task(
        run_group(
            command, cwd=ROOT, environment=environment, log=log, timeout_seconds=seconds, stop_seconds=1,
            on_start=groups.append,
        )
    )  # fmt: skip
    while not running.done():
        await asyncio.sleep(interval)
        sample = take_sample(Claim(tuple(groups), marker, is_watched=True), log, 0) if groups else None
        if sample and not running.done():
            samples.append(sample)
    await running
    return samples


def record() -> Iterator[str]:
    """Record every tree that is installed here; yields what was written."""
    TRACES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        place = Path(name)
        for tree, (is_healthy, command) in list_trees(place).items():
            if not is_installed(command):
                yield f"{tree}: not installed, its trace is kept as it is"
                continue
            samples = asyncio.run(follow(command, place, RECORDED_SECONDS, SAMPLE_SECONDS))
            path = TRACES / f"{tree.replace(' ', '-')}.json"
            path.write_text(_write(tree, samples, is_healthy=is_healthy), "utf-8")
            yield f"{tree}: {len(samples)} samples in {path.relative_to(ROOT)}"


def _write(tree: str, samples: Sequence[Sample], *, is_healthy: bool) -> str:
    """A trace as JSON: times count from its first sample, and commands are cut, so that it names no path."""
    begin = samples[0].at
    pids = {pid: number for number, pid in enumerate(sorted({one.pid for s in samples for one in s.processes}), 1)}
    rows = [
        {
            "at": round(sample.at - begin, 2),
            "output_bytes": sample.output_bytes,
            "processes": [
                {
                    **asdict(one),
                    "pid": pids[one.pid],
                    "parent": pids.get(one.parent, 0),
                    "started": round(one.started - begin, 1),
                    "command": Path(one.command.partition(" ")[0]).name,
                }
                for one in sample.processes
            ],
        }
        for sample in samples
    ]
    lines = ",\n".join(json.dumps(row) for row in rows)
    return f'{{"tree": {json.dumps(tree)}, "is_healthy": {json.dumps(is_healthy)}, "samples": [\n{lines}\n]}}\n'


def read_trace(path: Path) -> tuple[str, bool, Sequence[Sample]]:
    """The name of a recorded tree, whether it is healthy, and its samples."""
    data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    samples = [
        Sample(row["at"], row["output_bytes"], tuple(ProcessSample(**one) for one in row["processes"]))
        for row in data["samples"]
    ]
    return data["tree"], data["is_healthy"], samples


def list_steps(samples: Sequence[Sample]) -> Sequence[Step]:
    """What happened between each two samples."""
    return [_compare(before, after) for before, after in pairwise(samples)]


def _compare(before: Sample, after: Sample) -> Step:
    known = {(one.pid, one.started): one for one in before.processes}
    own = reaped = data = 0.0
    for one in after.processes:
        if earlier := known.get((one.pid, one.started)):
            own += one.cpu_seconds - earlier.cpu_seconds
            reaped += one.reaped_seconds - earlier.reaped_seconds
            data += one.io_bytes - earlier.io_bytes
        else:
            reaped += one.cpu_seconds + one.reaped_seconds
    waits = any(one.waits_for_input for one in after.processes)
    return Step(own, reaped, data, after.output_bytes - before.output_bytes, has_tool=True, waits=waits)


def replay(samples: Sequence[Sample], draw: random.Random) -> Iterator[Step]:
    """An endless turn of the recorded tree: stretches of the trace, drawn at random, each as long as an interval."""
    steps = list_steps(samples)
    length = round(MAX_INTERVAL_SECONDS / SAMPLE_SECONDS)
    while True:
        begin = draw.randrange(len(steps) - length + 1)
        part = steps[begin : begin + length]
        yield Step(
            sum(one.own for one in part),
            sum(one.reaped for one in part),
            sum(one.data for one in part),
            sum(one.output for one in part),
            has_tool=True,
            waits=part[-1].waits,
        )


def settle(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The second half of a trace, in which a program that waits has started."""
    return samples[len(samples) // 2 :]


if __name__ == "__main__":
    for line in record():
        print(line, flush=True)
