"""Measures what the coordinator costs over the git commands that any worktree, merge and removal needs."""

import os
import random
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from bench.common import SHARED_MACHINE, TARGET_BRANCH, Edges, Field, coordinate, git, lay_out
from bench.figures import judge

MEAN_PREREQUISITES = 2.0
SESSIONS = 8
SEED = 1
REPOSITORIES = {"small": (50, 200, 2), "medium": (5_000, 40, 1)}
"""Files in the repository, nodes of the graph, and rounds in which floor and coordinator take turns.

The medium graph is small because the floor makes and removes a worktree per node: on ext4, which skips recently freed
inodes, 200 of them take many minutes.
"""
TARGET = 2.0
HEAD_REF = "refs/bench/head"


def run() -> str:
    """Run one graph with bare git and with the coordinator, for each repository; takes a few minutes."""
    lines = [
        f"Overhead: random graphs, {MEAN_PREREQUISITES:g} prerequisites a node, {SESSIONS} sessions,",
        "agents that only commit, no verify.",
        "From the first agent's start until everything has landed and is cleaned up, over the same by bare git.",
        SHARED_MACHINE,
    ]
    for name, (files, nodes, rounds) in REPOSITORIES.items():
        edges = draw_graph(nodes)
        ratios: list[float] = []
        for number in range(1, rounds + 1):
            floor, whole = measure_floor(edges, files), measure_coordinator(edges, files)
            ratios.append(whole / floor)
            lines.append(
                f"{name} ({files} files, {nodes} nodes), round {number}: {ratios[-1]:.2f} "
                f"({whole:.1f} s over {floor:.1f} s)"
            )
        verdict = judge(f"overhead: over bare git, {name}", median(ratios), TARGET)
        lines.append(f"{name}, median: {median(ratios):.2f}, {verdict}")
    return "\n".join(lines)


def draw_graph(nodes: int, mean_prerequisites: float = MEAN_PREREQUISITES) -> Edges:
    """Draw a graph in which every pair of nodes is equally likely to have an edge; it is the same each time."""
    draw = random.Random(SEED)
    names = [f"node-{number:03}" for number in range(nodes)]
    chance = 2 * mean_prerequisites / (nodes - 1)
    return {name: tuple(one for one in names[:at] if draw.random() < chance) for at, name in enumerate(names)}


def measure_coordinator(edges: Edges, files: int) -> float:
    """Seconds from the first agent's start to the end that the run itself recorded."""
    with lay_out(edges, files) as place:
        view = coordinate(place, SESSIONS)
        return datetime.fromisoformat(view.ended).timestamp() - find_start(place, edges)


def measure_floor(edges: Edges, files: int) -> float:
    """Seconds from the first agent's start until the last worktree and branch are gone."""
    with lay_out(edges, files) as place:
        Floor(place).work(edges)
        return time.time() - find_start(place, edges)


def find_start(place: Field, edges: Edges) -> float:
    return min(place.began(node) for node in edges)


@dataclass(slots=True)
class Floor:
    """Only the git commands of each node, with as many nodes at a time as the coordinator has sessions.

    Adding and removing worktrees is under one lock, since git fails without it; files are written outside the lock, one
    node per core; merges are done one after the other.
    """

    place: Field
    administration: threading.Lock = field(default_factory=threading.Lock)
    merging: threading.Lock = field(default_factory=threading.Lock)
    checkouts: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(os.cpu_count() or 1))

    def work(self, edges: Edges) -> None:
        """Run the graph with a ready queue; a command that fails raises."""
        git(self.place.repository, "update-ref", HEAD_REF, TARGET_BRANCH)
        waiting = {node: set(above) for node, above in edges.items()}
        running: dict[Future[None], str] = {}
        with ThreadPoolExecutor(SESSIONS) as pool:
            while waiting or running:
                for node in [node for node, above in waiting.items() if not above]:
                    del waiting[node]
                    running[pool.submit(self.live, node)] = node
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    drop_everywhere(running.pop(future), waiting)

    def live(self, node: str) -> None:
        """Run one node: worktree, agent, merge, removal."""
        top = self.place.repository
        branch, path = f"feat/{node}", top / ".worktrees" / node
        with self.administration:
            git(top, "worktree", "add", "-q", "--no-checkout", "--no-track", "-b", branch, str(path), HEAD_REF)
        with self.checkouts:
            git(path, "reset", "-q", "--hard")
        subprocess.run([self.place.agent], cwd=path, env={**os.environ, "COORDINATOR_TASK_ID": node}, check=True)
        with self.merging:
            head = git(top, "rev-parse", HEAD_REF)
            tree = git(top, "merge-tree", "--write-tree", head, branch)
            commit = git(top, "commit-tree", tree, "-p", head, "-p", branch, "-m", f"Merge {branch}")
            git(top, "update-ref", HEAD_REF, commit, head)
        with self.administration:
            git(top, "worktree", "remove", "--force", str(path))
            git(top, "branch", "-q", "-D", branch)


def drop_everywhere(node: str, waiting: Mapping[str, set[str]]) -> None:
    for above in waiting.values():
        above.discard(node)


if __name__ == "__main__":
    print(run())
