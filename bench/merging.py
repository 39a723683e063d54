"""Measures what a coordinator's merge, including the head's move, costs over the three git commands any merge needs."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.common import SHARED_MACHINE, TARGET_BRANCH, copy_repository, git, import_branches, lay_out
from bench.figures import judge
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.compose.commit_composer import Candidate, Composer, Landing
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.repository import Repository

FILES = 20_000
BRANCHES = 100
CHANGED_FILES = 4
"""Per branch, each in another directory: three changed, one new; no two branches change the same file."""
ROUNDS = 5
BATCH = 10
"""Merges by one side before the other does as many, so that other load on the machine affects both."""
TARGET = 2.0
BARE_REF = "refs/bench/bare"


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of each merge in one round."""

    ours: tuple[float, ...]
    bare: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return sum(self.ours) / sum(self.bare)


def run() -> str:
    """Merge the same branches with bare git and with the coordinator, round by round; takes a few minutes."""
    rounds = measure()
    lines = [
        f"Merging: {BRANCHES} branches of {CHANGED_FILES} files each onto one head, {FILES} files, no verify.",
        "Composing the commit and moving the head, over `merge-tree --write-tree`, `commit-tree` and `update-ref`.",
        SHARED_MACHINE,
    ]
    for number, times in enumerate(rounds, start=1):
        lines.append(
            f"round {number}: {times.ratio:.2f} (medians {median(times.ours):.1f} ms over {median(times.bare):.1f} ms)"
        )
    ratio = median(times.ratio for times in rounds)
    verdict = judge("merging over bare git", ratio, TARGET)
    return "\n".join([*lines, f"median of {len(rounds)} rounds: {ratio:.2f}, {verdict}"])


def measure() -> Sequence[Times]:
    """In every round, merge the same branches onto the same start, each side in a copy without the other's objects."""
    names = [f"node-{number:03}" for number in range(BRANCHES)]
    with lay_out(dict.fromkeys(names, ()), FILES) as place:
        tips = import_branches(place, {name: f"feat/{name}" for name in names}, FILES, CHANGED_FILES)
        git(place.repository, "repack", "-a", "-d", "-q")
        rounds: list[Times] = []
        for number in range(ROUNDS):
            with (
                copy_repository(place, f"ours-{number}") as ours,
                copy_repository(place, f"bare-{number}") as bare,
            ):
                rounds.append(measure_round(ours, bare, tips))
        return rounds


def measure_round(top: Path, bare_top: Path, tips: Mapping[str, str]) -> Times:
    repository = Repository.open(top)
    git(bare_top, "update-ref", BARE_REF, TARGET_BRANCH)
    ours: list[float] = []
    bare: list[float] = []
    with closing(Objects(repository.git)) as objects:
        queue = Queue(repository, objects, tips)
        for batch in cut(list(tips)):
            bare += [measure_call(lambda name=name: merge_bare(bare_top, tips[name], name)) for name in batch]
            ours += [measure_call(lambda name=name: queue.merge(name)) for name in batch]
    return Times(tuple(ours), tuple(bare))


def cut(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[at : at + BATCH] for at in range(0, len(names), BATCH))


def measure_call(work: Callable[[], None]) -> float:
    """The milliseconds that `work` takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


class Queue:
    """The coordinator's own merging, without a run."""

    def __init__(self, repository: Repository, objects: Objects, tips: Mapping[str, str]) -> None:
        reader = TaskReader(objects, "tasks", TARGET_BRANCH)
        self.head: Head = Head(repository.git, TARGET_BRANCH)
        self._composer: Composer = Composer(repository.git, objects, reader)
        tasks = {task.id: task for task in reader.read(self.head.current()).tasks}
        self._landings: Mapping[str, Landing] = {
            name: Landing(tasks[name], f"feat/{name}", tip, 1, "bench", "bench", "", summary="It is done.")
            for name, tip in tips.items()
        }

    def merge(self, name: str) -> None:
        """Compose one merge and move the head to it."""
        made = self._composer.compose_merge(self._landings[name], self.head.last_seen())
        if not isinstance(made, Candidate) or not self.head.advance(made.head, made.commit):
            raise AssertionError(f"{name} did not land: {made}")


def merge_bare(top: Path, tip: str, name: str) -> None:
    """Do the same with git alone, with the head known beforehand."""
    head = (top / BARE_REF).read_text(encoding="ascii").strip()
    tree = git(top, "merge-tree", "--write-tree", head, tip)
    commit = git(top, "commit-tree", tree, "-p", head, "-p", tip, "-m", f"Merge feat/{name}")
    git(top, "update-ref", BARE_REF, commit, head)


if __name__ == "__main__":
    print(run())
