"""Measures how many conflicts are seen before they come, how soon, and at what cost."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

from bench import watch
from bench.common import Field, describe_machine, git, lay_out, name_file
from bench.figures import judge, judge_least
from bench.radar_agents import Played, play
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.inspection.live_state import LiveStates
from tasks_lib.git.inspection.pair_merges import PairMerger
from tasks_lib.git.objects.quarantine import Quarantine
from tasks_lib.git.repository import Repository
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.project.loading import load_project
from tasks_lib.runtime.conflict_radar import ConflictRadar, describe_branch
from tasks_lib.runtime.git_access import GitAccess
from tasks_lib.session.coming_conflicts import Radar, announce, find_states, list_pairs, note_merges, see

CONFLICTS = 100
"""How many real conflicts are played, in as many graphs as that takes, at most `MOST_GRAPHS`."""
MOST_GRAPHS = 40
HELD_OUT_SEED = 1_000_000
"""The agents were made to play on seeds from 0; figures are for seeds from here on."""
KNOWN_PERCENT, FALSE_PERCENT = 70, 10
FILES, OTHERS, ROUNDS = 5_000, 99, 9
SECONDS_TARGET = 1.0
SESSIONS, SHARE_PERCENT = 30, 3
COST_SECONDS, WARM_UP_SECONDS = 90.0, 20.0
LOOK_SECONDS = 30.0
EDIT_SECONDS = 8.0
"""How often each session changes a file, and ends a tool."""
_editors: set[int] = set()
_EDIT = """
import itertools, pathlib, random, sys, time
paths = [pathlib.Path(one) for one in sys.argv[2:]]
for number in itertools.count():
    path = paths[number % len(paths)]
    lines = path.read_text().splitlines()
    lines[random.randrange(len(lines))] = f"edit {number}"
    path.write_text("\\n".join(lines) + "\\n")
    time.sleep(float(sys.argv[1]) / len(paths))
"""


def run() -> str:
    """Play graphs, compare one branch with 99 others, and look at 30 sessions; takes about ten minutes."""
    return "\n".join([*measure_foresight(), *measure_delay(), *measure_cost(), describe_machine()])


# What is known before it comes.


def measure_foresight() -> Iterator[str]:
    """Play seeded graphs of agents that edit, undo, rename and commit, and compare what was announced with git."""
    games: list[Played] = []
    while sum(len(one.real) for one in games) < CONFLICTS and len(games) < MOST_GRAPHS:
        games.append(play(HELD_OUT_SEED + len(games), sees_tools=len(games) % 2 == 0))
    real, known, announced, false = (
        sum(len(getattr(one, kind)) for one in games) for kind in ("real", "known", "announced", "false")
    )
    yield f"Conflicts in {len(games)} graphs; in every second one only commits and 30 s are noticed, no ends of tools:"
    verdict = judge_least("radar: conflicts known before the turn ends, %", 100 * known / real, KNOWN_PERCENT)
    yield f"  known before the turn ended: {known} of {real}, {verdict}"
    share = false / max(1, announced)
    verdict = judge("radar: false alarms, %", 100 * share, FALSE_PERCENT)
    yield f"  false alarms: {false} of {announced} ({share:.1%}), {verdict}"


# How soon.


def measure_delay() -> Iterator[str]:
    """Change a worktree, and compare it with 99 branches, all of which changed the same file."""
    with lay_out({"node": ()}, FILES) as place:
        tips = _import_others(place)
        worktree = _add_worktree(place, 1)
        repository = Repository.open(place.repository)
        quarantine = Quarantine(repository.git, place.home / "quarantine")
        with closing(LiveStates(repository.git, quarantine, lambda _: False)) as states:
            merger = PairMerger(IsolatedGit(repository.git, place.home / "isolation"), states.objects, quarantine)
            head, radar = git(place.repository, "rev-parse", "main"), Radar()
            for number, tip in enumerate(tips):
                radar = see(radar, describe_branch(f"n{number}", states.read_commit(tip, head), 0, 0.0))
            ours, bare = _time_looks(place, worktree, states, merger, radar, tips)
    ratio = median(one / other for one, other in zip(ours, bare, strict=True))
    yield f"One branch against {OTHERS} others that changed the same file, {FILES} files, from notice to announcement:"
    verdict = judge(f"radar: one branch against {OTHERS}, worst, s", max(ours), SECONDS_TARGET)
    yield f"  median {median(ours):.2f} s, worst {max(ours):.2f} s, {verdict}"
    yield f"  over `git status` and 99 merges by one `git merge-tree` alone: {ratio:.2f}"


def _import_others(place: Field) -> list[str]:
    """Make 99 branches, each of which changes the first file at a line of its own, and some others."""
    start = git(place.repository, "rev-parse", "main")
    stream: list[str] = []
    before = git(place.repository, "show", f"main:{name_file(0)}").split("\n")
    for number in range(OTHERS):
        lines = [*before[:1], f"line of {number}", *before[1:]]
        stream += [f"commit refs/heads/n{number}", "committer Bench <bench@localhost> 1700000000 +0000"]
        stream += ["data 4", "Work", f"from {start}"]
        for path, text in ((name_file(0), "\n".join(lines)), (name_file(number + 1), f"{number}\n")):
            stream += [f"M 100644 inline {path}", f"data {len(text.encode())}", text]
    git(place.repository, "fast-import", "--quiet", "--force", stdin="\n".join([*stream, ""]))
    return [git(place.repository, "rev-parse", f"refs/heads/n{number}") for number in range(OTHERS)]


def _add_worktree(place: Field, number: int) -> Worktree:
    path = place.home / f"live-{number}"
    git(place.repository, "worktree", "add", "-q", "-b", f"live-{number}", str(path), "main")
    return Worktree(path, place.repository / ".git" / "worktrees" / f"live-{number}", number, f"live-{number}")


def _time_looks(
    place: Field, worktree: Worktree, states: LiveStates, merger: PairMerger, radar: Radar, tips: Sequence[str]
) -> tuple[list[float], list[float]]:
    head, ours, bare = git(place.repository, "rev-parse", "main"), list[float](), list[float]()
    file = worktree.path / name_file(0)
    for number in range(ROUNDS):
        first, _, rest = file.read_text().partition("\n")
        file.write_text(f"{first}\nchange {number}\n{rest}")
        began = time.perf_counter()
        state = states.look(worktree, head)
        if state is None:
            raise AssertionError("the worktree could not be read")
        radar = see(radar, describe_branch("live", state, 0, 1.0))
        pairs = list_pairs(radar, "live")
        wanted = [find_states(radar, pair) for pair in pairs]
        merged = merger.merge(wanted, head)
        found = {pair: (one, paths or ()) for pair, one, paths in zip(pairs, wanted, merged, strict=True)}
        radar, said = announce(note_merges(radar, found, 0.0), ("live",), {}, 1e9)
        ours.append(time.perf_counter() - began)
        if len(pairs) != OTHERS or (number == 0 and not said):
            raise AssertionError(f"{len(pairs)} pairs were merged, {len(said)} conflicts announced")
        bare.append(_time_bare(worktree, tips))
    return ours, bare


def _time_bare(worktree: Worktree, tips: Sequence[str]) -> float:
    began = time.perf_counter()
    git(worktree.path, "status", "--porcelain", "--untracked-files=all")
    lines = "".join(f"{tip} {tips[0]}\n" for tip in tips)
    command = ["git", "merge-tree", "--write-tree", "--stdin"]
    subprocess.run(command, cwd=worktree.path, input=lines, capture_output=True, text=True, check=False)
    return time.perf_counter() - began


# What it costs.


@dataclass(slots=True)
class Busy:
    """A session that changes a file and ends a tool every few seconds."""

    number: int
    worktree: Worktree
    began: float = field(default_factory=time.time)
    is_live: bool = True
    is_listening: bool = True
    told: int = 0
    shown: str = ""

    @property
    def node(self) -> str:
        return f"n{self.number}"

    @property
    def activity(self) -> tuple[str, str]:
        return str(int(time.time())), str(int((time.time() + self.number) / EDIT_SECONDS))

    def make_filter(self) -> Callable[[str], bool]:
        return lambda _: False

    def show_changes(self, summary: str) -> None:
        self.shown = summary

    async def tell(self, paths: Sequence[str], other: str, diff: str) -> bool:
        self.told += 1
        return bool(paths and other and diff)


class Silent:
    """Shows nothing."""

    def say(self, message: str) -> None:
        pass

    def expect_conflicts(self, node_id: str, conflicts: object) -> None:
        pass


def measure_cost() -> Iterator[str]:
    """The processor time of the radar with 30 sessions, its git processes included, and that of the watch."""
    with lay_out({"node": ()}, FILES) as place:
        worktrees = [_add_worktree(place, number) for number in range(1, SESSIONS + 1)]
        share = asyncio.run(_look_at_all(place, worktrees))
    watched = watch.measure_share()
    yield f"{SESSIONS} sessions that all change files all the time, {FILES} files, as a share of one core:"
    both = share + watched
    verdict = judge(f"radar and watch: {SESSIONS} sessions, % of a core", 100 * both, SHARE_PERCENT)
    yield f"  radar {share:.2%}, watch {watched:.2%}, together {both:.2%}, {verdict}"


async def _look_at_all(place: Field, worktrees: Sequence[Worktree]) -> float:
    project = await asyncio.to_thread(load_project, place.repository, {})
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as private:
        access = GitAccess(project, Path(private), SESSIONS, lambda _: None)
        radar = ConflictRadar(access, Silent(), LOOK_SECONDS, lambda _: False)
        for number, worktree in enumerate(worktrees):
            radar.enter(Busy(number, worktree))
        async with _editing(worktrees):
            job = asyncio.create_task(radar.work())
            await asyncio.sleep(WARM_UP_SECONDS)
            before, began = _spent(), time.monotonic()
            await asyncio.sleep(COST_SECONDS)
            used, lasted = _spent() - before, time.monotonic() - began
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
        await asyncio.to_thread(access.close)
    return used / lasted


@asynccontextmanager
async def _editing(worktrees: Sequence[Worktree]) -> AsyncGenerator[None]:
    paths = [str(one.path / name_file(number % 7)) for number, one in enumerate(worktrees)]
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _EDIT, str(EDIT_SECONDS), *paths)
    _editors.add(process.pid)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


def _spent() -> float:
    """The processor seconds of this process and of all that it has started, except those that edit files."""
    found = os.times()
    running = sum(
        sum(process.cpu_times()[:2]) for process in psutil.Process().children() if process.pid not in _editors
    )
    return found.user + found.system + found.children_user + found.children_system + running


if __name__ == "__main__":
    print(run())
