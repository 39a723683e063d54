"""Compares pooled worktrees to new ones, and measures whether worktrees get slower after many."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from bench.common import SHARED_MACHINE, TARGET_BRANCH, Field, git, import_branches, lay_out
from bench.figures import judge
from tasks_lib.git.branches import delete_branch
from tasks_lib.git.repository import Repository
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees

POOLED_FILES = 5_000
ROUNDS = 12
BEHIND = 12
"""Merges of four files by which the head moves between two uses of a worktree, as with a dozen sessions."""
POOLED_TARGET = 0.3

MANY_FILES = 20_000
MANY = 300
OPEN = 8
"""Worktrees that exist at a time, as with eight sessions."""
EDGE = 30
"""How many of the first and of the last are compared."""
SLOW_TARGET = 2.0
"""A busy machine alone can double the time; the slow-down to detect is tenfold."""
PLAIN_SECONDS = 90.0
"""Plain git is stopped after this time: on ext4, which skips recently freed inodes, 300 take an hour."""
CHANGED_FILES = 4


def run() -> str:
    """Do both comparisons; takes about five minutes."""
    return "\n".join([*tell_pooled(), *tell_many()])


def tell_pooled() -> list[str]:
    fresh, pooled = measure_pooled()
    ratio = median(one / other for one, other in zip(pooled, fresh, strict=True))
    return [
        f"Worktrees: a pooled one ({BEHIND * CHANGED_FILES} files to change) over a new one, {POOLED_FILES} files,",
        f"{ROUNDS} rounds in turns, before anything was deleted.",
        SHARED_MACHINE,
        (
            f"pooled {1000 * median(pooled):.0f} ms, new {1000 * median(fresh):.0f} ms, ratio {ratio:.2f}, "
            f"{judge('worktrees: pooled over new', ratio, POOLED_TARGET)}"
        ),
    ]


def measure_pooled() -> tuple[Sequence[float], Sequence[float]]:
    """Seconds to open new and pooled worktrees, in turns; the new ones stay, so that nothing is deleted.

    A pooled one is opened at a commit `BEHIND` merges after its last use.
    """
    count = ROUNDS * BEHIND
    with lay_out({}, POOLED_FILES) as place:
        line = make_line(place, count, POOLED_FILES)
        worktrees = Worktrees(Repository.open(place.repository))
        first = worktrees.open_branch("feat/pooled", line[0])
        fresh: list[float] = []
        pooled: list[float] = []
        for number in range(ROUNDS):
            start = line[(number + 1) * BEHIND]
            fresh.append(measure_call(lambda at=start, n=number: worktrees.open_branch(f"feat/new-{n}", at)))
            worktrees.release(first)
            began = time.perf_counter()
            first = worktrees.open_branch(f"feat/pooled-{number}", start)
            pooled.append(time.perf_counter() - began)
        return fresh, pooled


def make_line(place: Field, count: int, files: int) -> list[str]:
    """Make a chain of merge commits, each changing other files; the first commit is the target's."""
    tips = import_branches(place, {f"step-{n:04}": f"step-{n:04}" for n in range(count)}, files, CHANGED_FILES)
    line = [git(place.repository, "rev-parse", TARGET_BRANCH)]
    for name, tip in tips.items():
        tree = git(place.repository, "merge-tree", "--write-tree", line[-1], tip)
        line.append(git(place.repository, "commit-tree", tree, "-p", line[-1], "-p", tip, "-m", f"Merge {name}"))
    return line


def measure_call(work: Callable[[], object]) -> float:
    """The seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def tell_many() -> list[str]:
    with lay_out({}, MANY_FILES) as place:
        line = make_line(place, MANY, MANY_FILES)
        ours = make_ours(place.repository, line)
        plain = make_plain(place.repository, line)
    ratio = median(ours[-EDGE:]) / median(ours[OPEN : OPEN + EDGE])
    verdict = judge(f"worktrees: last over first of {MANY}", ratio, SLOW_TARGET)
    lines = [
        f"{MANY} worktrees made and removed, {MANY_FILES} files, {OPEN} there at a time; milliseconds each, median of",
        f"the first {EDGE} and of the last {EDGE}:",
        (
            f"the coordinator: the {OPEN} that fill the pool {1000 * median(ours[:OPEN]):.0f}, then "
            f"{tell_edges(ours[OPEN:])}; last over first {ratio:.2f}, {verdict}"
        ),
    ]
    given_up = "" if len(plain) == MANY else f", given up after {len(plain)} for want of time"
    return [*lines, f"plain `worktree add` and `remove`: {tell_edges(plain)}{given_up}"]


def tell_edges(times: Sequence[float]) -> str:
    return f"{1000 * median(times[:EDGE]):.0f} and {1000 * median(times[-EDGE:]):.0f}"


def make_ours(top: Path, line: Sequence[str]) -> list[float]:
    """Seconds for the coordinator to make and remove each worktree; later nodes reuse the worktrees of earlier ones."""
    repository = Repository.open(top)
    worktrees = Worktrees(repository, pool_size=2 * OPEN + 1)
    live: list[Worktree] = []
    times: list[float] = []
    for number in range(MANY):
        began = time.perf_counter()
        if len(live) == OPEN:
            oldest = live.pop(0)
            worktrees.release(oldest)
            delete_branch(repository, str(oldest.branch), line[number - OPEN])
        live.append(worktrees.open_branch(f"feat/node-{number:03}", line[number]))
        times.append(time.perf_counter() - began)
    for worktree in live:
        worktrees.release(worktree)
    worktrees.close()
    return times


def make_plain(top: Path, line: Sequence[str]) -> list[float]:
    """The same with git alone, until `PLAIN_SECONDS` are over."""
    live: list[Path] = []
    times: list[float] = []
    deadline = time.monotonic() + PLAIN_SECONDS
    for number in range(MANY):
        if time.monotonic() > deadline:
            break
        began = time.perf_counter()
        if len(live) == OPEN:
            oldest = live.pop(0)
            git(top, "worktree", "remove", "--force", str(oldest))
            git(top, "branch", "-q", "-D", f"plain/{oldest.name}")
        live.append(top / ".worktrees" / "plain" / f"node-{number:03}")
        branch = f"plain/{live[-1].name}"
        git(top, "worktree", "add", "-q", "--no-track", "-b", branch, str(live[-1]), line[number])
        times.append(time.perf_counter() - began)
    return times


if __name__ == "__main__":
    print(run())
