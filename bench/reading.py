"""Measures how long it takes to find the nodes that may start in a repository of many task files."""

import random
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.common import ROOT, SHARED_MACHINE, Field, describe_machine, git, lay_out
from bench.figures import judge
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.repository import Repository
from tasks_lib.graph.run_plan import Plan
from tasks_lib.graph.task_graph import build_graph
from tasks_lib.model import Status, Task
from tasks_lib.project.loading import load_project
from tasks_lib.taskfile.parsing import decode, encode, set_status

FEW, MANY = 1_000, 10_000
MOST_PREREQUISITES = 4
NEAR = 50
"""A task depends on some of this many tasks before it, as when people write tasks one after another."""
ROUNDS = 7
SEED = 1
TARGET_MS = 250.0
TARGET_RATIO = 12.0
SCOPES = ("single", "narrow", "moderate", "broad")
PARAGRAPH = "This part is to do what its name says, and nothing that the parts beside it do. " * 4


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of one process.

    `first` is everything that a command does apart from imports: configuration, heads, uncommitted changes, every task
    file, the graph, the plan. `again` is reading and planning the next commit, in which one task is completed.
    """

    first: float
    again: float


def run() -> str:
    """Read repositories with few and with many task files in turns; takes a minute."""
    with lay_out({}, 0) as few, lay_out({}, 0) as many:
        write_tasks(few, FEW)
        write_tasks(many, MANY)
        rounds = [(measure_apart(few), measure_apart(many)) for _ in range(ROUNDS)]
    ratio = median(other.first / one.first for one, other in rounds)
    few_ms = median(one.first for one, _ in rounds)
    return "\n".join(
        [
            f"Reading: task files of about 1 kB with 0 to {MOST_PREREQUISITES} prerequisites, out of git, checked and",
            f"planned, each time by a new process; medians of {ROUNDS} rounds. {describe_machine()}",
            SHARED_MACHINE,
            f"{tell(FEW, [one for one, _ in rounds])}, {judge(f'reading: {FEW} files, ms', few_ms, TARGET_MS)}",
            tell(MANY, [other for _, other in rounds]),
            f"{MANY} over {FEW} files: {ratio:.1f}, {judge(f'reading: {MANY} over {FEW} files', ratio, TARGET_RATIO)}",
        ]
    )


def tell(count: int, rounds: Sequence[Times]) -> str:
    first, again = median(one.first for one in rounds), median(one.again for one in rounds)
    best = min(one.first for one in rounds)
    return f"{count} files: after a landing {again:.0f} ms; from nothing {first:.0f} ms (best {best:.0f})"


def write_tasks(field: Field, count: int) -> None:
    """Commit `count` task files, in one pack as in a clone."""
    draw = random.Random(SEED)
    names = [f"part-{number // 100:03}/task-{number:05}" for number in range(count)]
    for at, name in enumerate(names):
        near = names[max(0, at - NEAR) : at]
        above = draw.sample(near, k=min(len(near), draw.randint(0, MOST_PREREQUISITES)))
        path = field.repository / "tasks" / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(write_task(name, above, draw))
    git(field.repository, "add", "-A")
    git(field.repository, "commit", "-q", "-m", f"Plan {count} tasks")
    git(field.repository, "repack", "-a", "-d", "-q")


def write_task(name: str, above: Sequence[str], draw: random.Random) -> str:
    listed = "".join(f"\n  - {one}" for one in above) or " []"
    front = (
        f"id: {name}\nname: Work on {name}\nstatus: pending\ndepends_on:{listed}\nscope: {draw.choice(SCOPES)}\n"
        f"risk: low\nimpact: component\nlevel: implementation\npriority: high\ntags: [bench, scale]\n"
        "created: 2024-03-01\n"
    )
    body = f"## Description\n\n{PARAGRAPH}\n\n## Acceptance Criteria\n\n- [ ] It works.\n- [ ] It is tested.\n"
    return f"---\n{front}---\n\n{body}\n## Notes\n\n## Summary\n\n> To be filled on completion\n"


def measure_apart(field: Field) -> Times:
    """Measure in a process of its own, where nothing is cached."""
    command = [sys.executable, "-m", "bench.reading", str(field.repository)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return Times(*(float(word) for word in done.stdout.split()))


def measure(top: Path) -> Times:
    """Read and plan the repository at `top`, then the commit that a landing would make on it."""
    Repository.open(top)  # Imports GitPython.
    began = time.perf_counter()
    project = load_project(top, {})
    find_ready(project.graph.tasks.values())
    first = time.perf_counter() - began
    with closing(Objects(Repository.open(top).git)) as objects:
        reader = TaskReader(objects, project.tasks_dir)
        task = reader.read(project.head).tasks[0]
        text = set_status(decode(objects.read(task.blob)), Status.COMPLETED)
        landed = objects.edit_tree(project.head, {task.path: objects.write_blob(encode(text))})
        began = time.perf_counter()
        find_ready(reader.read(landed).tasks)
        again = time.perf_counter() - began
    return Times(1000 * first, 1000 * again)


def find_ready(tasks: Iterable[Task]) -> tuple[str, ...]:
    return Plan(build_graph(tasks)).ready()


if __name__ == "__main__":
    times = measure(Path(sys.argv[1]))
    print(times.first, times.again)
