"""Measures how long `coordinator report` takes for a run of a thousand nodes, with runs before it to compare."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench.common import ROOT, SHARED_MACHINE, TARGET_BRANCH, Edges, Field, describe_machine, git, lay_out
from bench.figures import judge
from bench.overhead import draw_graph
from tasks_lib.git.repository import Repository
from tasks_lib.model import Merged, Stage
from tasks_lib.project.after_action import gather
from tasks_lib.project.loading import load_project
from tasks_lib.project.run_journals import JOURNALS, SUFFIX
from tasks_lib.reporting.journal_events import Cause, JournalEvent
from tasks_lib.reporting.run_figures import make_headline
from tasks_lib.runtime.run_journal import RunJournal
from tasks_lib.runtime.status_board import VIEW_NAME, Board, RunView, now_text

FEW, NODES = 100, 1_000
FILES = 2_000
EARLIER = 5
ROUNDS = 5
SHARED_FILES = 50
"""Every node changes one of as many files, so each of them is changed by twenty nodes."""
RUN = "report-bench"
STARTED = now_text()
TARGET_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Seconds:
    """What one report took: by the clock, and of a processor."""

    wall: float
    used: float


def run() -> str:
    """Report on a small and a large run; takes a minute."""
    few, small = measure(FEW)
    many, large = measure(NODES)
    verdict = judge(f"report: {NODES} nodes, s", many.wall, TARGET_SECONDS)
    return "\n".join(
        [
            f"Report: `coordinator report` as a process of its own, {EARLIER} runs of the same size before it,",
            f"{FILES} files; medians of {ROUNDS} rounds. {describe_machine()}",
            SHARED_MACHINE,
            f"{FEW:>5} nodes: {few.wall:.2f} s, of a processor {few.used:.2f} s; {small / FEW:.0f} bytes a node",
            f"{NODES:>5} nodes: {many.wall:.2f} s, {verdict}; of a processor",
            f"            {many.used:.2f} s; {large / NODES:.0f} bytes a node",
            f"{NODES} nodes over {FEW}: {many.used / few.used:.2f} times the processor's time",
        ]
    )


def measure(nodes: int) -> tuple[Seconds, int]:
    """What one report takes in the median, and the size of the run's journal in bytes."""
    edges = draw_graph(nodes)
    with lay_out(edges, FILES) as place:
        land_all(place, edges)
        size = write_journals(place, edges)
        found = [report(place, nodes) for _ in range(ROUNDS)]
        return Seconds(median(one.wall for one in found), median(one.used for one in found)), size


def report(place: Field, nodes: int) -> Seconds:
    """Make one report; raises AssertionError if it is not about all nodes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "GIT_"))}
    environment |= {"COORDINATOR_DATA_DIR": str(place.home / "data")}
    command = [sys.executable, "-m", "flows.cli", "report", "--repo", str(place.repository)]
    began, used = time.perf_counter(), sum(os.times()[2:4])
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    if f"- {nodes} of {nodes} nodes landed." not in done.stdout or "The runs before" not in done.stdout:
        raise AssertionError(f"the report is not about {nodes} nodes:\n{done.stdout[:2000]}")
    return Seconds(seconds, sum(os.times()[2:4]) - used)


def land_all(place: Field, edges: Edges) -> None:
    """Make a branch and a merge for each node on the target, as a run leaves them."""
    start = git(place.repository, "rev-parse", TARGET_BRANCH)
    stream = [line for number, node in enumerate(edges) for line in _write_merge(node, number, start)]
    git(place.repository, "fast-import", "--quiet", "--force", stdin="\n".join([*stream, ""]))
    git(place.repository, "reset", "-q", "--hard")


def _write_merge(node: str, number: int, start: str) -> Iterator[str]:
    who = f"Bench <bench@localhost> {int(time.time())} +0000"
    changes = [
        f"M 100644 inline work-{node}.txt",
        *_write_data(f"{node}\n" * 20),
        f"M 100644 inline shared-{number % SHARED_FILES:02}.txt",
        *_write_data(f"{node} was here\n"),
    ]
    trailers = f"Task: {node}\nAttempt: 1\nRun: {RUN}\nSession: s\nVerified: none"
    yield from (f"commit refs/heads/feat/{node}", f"committer {who}", *_write_data(f"Work {node}"), f"from {start}")
    yield from changes
    yield from (f"commit refs/heads/{TARGET_BRANCH}", f"committer {who}")
    yield from _write_data(f"Merge feat/{node}: Work {node}\n\n{trailers}\n")
    yield from ([f"from {start}"] if number == 0 else [])  # Each later one follows the one before it.
    yield f"merge refs/heads/feat/{node}"
    yield from changes


def _write_data(text: str) -> tuple[str, str]:
    return f"data {len(text.encode())}", text


def write_journals(place: Field, edges: Edges) -> int:
    """Write the journal of a run in which each node was given back once, and copies of it; return its size."""
    state = Repository.open(place.repository).state_dir
    state.mkdir(parents=True, exist_ok=True)
    board = Board(RunView(RUN, TARGET_BRANCH, STARTED), state / VIEW_NAME)
    journal = RunJournal()
    start, *merges = git(place.repository, "rev-list", "--first-parent", "--reverse", TARGET_BRANCH).split()
    journal.open(state, board, 8, start)
    for number, (node, merge) in enumerate(zip(edges, merges, strict=True)):
        board.add_node(node, node)
        write_node(journal, board, node, f"shared-{number % SHARED_FILES:02}.txt", merge)
    journal.judge(0)
    report = gather(load_project(place.repository), RUN)
    journal.sum_up(asdict(make_headline(RUN, report.figures, report.started)))
    path = state / JOURNALS / f"{RUN}{SUFFIX}"
    for number in range(EARLIER):
        copy_earlier(path, number)
    return path.stat().st_size


def write_node(journal: RunJournal, board: Board, node: str, shared: str, commit: str) -> None:
    """Write what a node does that is given back once because of a conflict."""
    turn = {"role": "implementation-specialist", "model": "bench/model", "seconds": 1.0, "tokens": 1000, "cost": 0.01}
    board.enter(node, Stage.WORKTREE, f"feat/{node}", attempt=1)
    for number in (1, 2):
        board.enter(node, Stage.SESSION, f"turn {number}", turn=number)
        journal.note(JournalEvent.TURNED, node, **turn)
        board.enter(node, Stage.QUEUED)
        board.enter(node, Stage.VERIFY)
        if number == 1:
            board.enter(node, Stage.GIVEN_BACK, f"conflicts with the head in {shared}")
            journal.note(
                JournalEvent.REFUSED, node, cause="conflict", paths=(shared,), reason="conflicts with the head"
            )
            journal.note(JournalEvent.WAITED, node, cause=Cause.SLOT, seconds=0.1)
    board.end(node, Merged(commit))


def copy_earlier(path: Path, number: int) -> None:
    copy = path.with_name(f"earlier-{number}{SUFFIX}")
    shutil.copy(path, copy)
    os.utime(copy, (number, number))


if __name__ == "__main__":
    print(run())
