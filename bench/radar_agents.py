"""Plays agents that edit real worktrees in small steps on a simulated clock, lands their work, and asks the radar."""

import random
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.common import git, set_identity
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.inspection.live_state import LiveStates, read_commit_stamp
from tasks_lib.git.inspection.pair_merges import PairMerger
from tasks_lib.git.objects.quarantine import Quarantine
from tasks_lib.git.repository import Repository
from tasks_lib.git.worktree_admin import Worktree
from tasks_lib.runtime.conflict_radar import describe_branch
from tasks_lib.session.coming_conflicts import (
    Pair,
    Radar,
    announce,
    find_states,
    list_pairs,
    make_pair,
    note_merges,
    see,
)

AGENTS = 12
FILES = 40
LINES = 80
FOLDERS = 5
LIST = "src/registry.txt"
SHARED = 6
"""The first files are edited by every agent, at places of its own; each agent also has files of its own."""
PLACES = 6
STEPS = (8, 25)
ENDING_STEPS = 2
"""A turn ends with a commit of the rest and a run of the tests, of which the agent then reports."""
STEP_SECONDS = (8.0, 45.0)
OWN_PLACE = 0.8
"""The share of edits of a shared file that are at the agent's own place in it."""
ADDED = 0.5
DEPENDENT = 0.3
"""The share of agents that begin only after another one has landed."""
LOOK_SECONDS = 30.0
"""What `watch.conflict_seconds` is by default."""
ACTIONS: Mapping[str, int] = {
    "own": 40, "shared": 22, "new": 8, "undo": 9, "list": 3, "rename": 2, "delete": 1, "read": 15, "commit": 14,
}  # fmt: skip


@dataclass(slots=True)
class Agent:
    """One agent: its worktree, when it began and when its next step is, the contents that it can restore."""

    name: str
    worktree: Worktree
    began: float
    at: float
    steps: int
    random: random.Random
    undo: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    looked_at: float = float("-inf")
    stamp: object = None


@dataclass(frozen=True, slots=True)
class Played:
    """What happened in one graph, as pairs of agents.

    `real` conflict as both landed; `known` are those of them that were announced before the later turn ended. `false`
    are those `announced` that do not conflict.
    """

    real: frozenset[Pair]
    known: frozenset[Pair]
    announced: frozenset[Pair]
    false: frozenset[Pair]


class Play:
    """One seeded graph in a directory `place`. `sees_tools`: the end of each step is noticed, as with opencode."""

    def __init__(self, place: Path, seed: int, *, sees_tools: bool) -> None:
        self._random: random.Random = random.Random(seed)
        self._top: Path = place / "repository"
        self._sees_tools: bool = sees_tools
        make_repository(self._top)
        self._repository: Repository = Repository.open(self._top)
        self._quarantine: Quarantine = Quarantine(self._repository.git, place / "quarantine")
        self._states: LiveStates = LiveStates(self._repository.git, self._quarantine, lambda path: False)
        isolation = IsolatedGit(self._repository.git, place / "isolation")
        self._merger: PairMerger = PairMerger(isolation, self._states.objects, self._quarantine)
        self._radar: Radar = Radar()
        self._announced: dict[Pair, float] = {}
        self._ended: dict[str, tuple[float, str]] = {}
        self._begun_from: dict[str, frozenset[str]] = {}
        self._place: Path = place
        self._head: str = git(self._top, "rev-parse", "main")

    def run(self) -> Played:
        """Play until every agent has landed."""
        waiting, agents, clock = list(range(AGENTS)), list[Agent](), 0.0
        starts = [self._random.uniform(0, 400) for _ in waiting]
        waits = {one: self._random.randrange(one) for one in waiting if one and self._random.random() < DEPENDENT}
        while waiting or agents:
            for number in list(waiting):
                is_free = number not in waits or f"n{waits[number]}" in self._ended
                if is_free and starts[number] <= clock:
                    waiting.remove(number)
                    agents.append(self._begin(number, clock))
            clock += 1.0
            for agent in [one for one in agents if one.at <= clock]:
                self._step(agent, clock)
                if agent.steps == 0:
                    agents.remove(agent)
                    self._land(agent, clock)
            self._look(agents, clock)
        self._states.close()
        return self._judge()

    def _begin(self, number: int, clock: float) -> Agent:
        name = f"n{number}"
        path = self._place / name
        git(self._top, "worktree", "add", "-q", "-b", name, str(path), "main")
        self._begun_from[name] = frozenset(self._ended)
        made = random.Random(self._random.random())
        worktree = Worktree(path, self._top / ".git" / "worktrees" / name, number + 1, name)
        return Agent(name, worktree, clock, clock + made.uniform(*STEP_SECONDS), made.randint(*STEPS), made)

    def _step(self, agent: Agent, clock: float) -> None:
        agent.steps -= 1
        if agent.steps >= ENDING_STEPS:
            act(agent)
        elif agent.steps == ENDING_STEPS - 1:
            commit(agent.worktree.path, f"{agent.name} is done")
        agent.at = clock + agent.random.uniform(*STEP_SECONDS)
        if self._sees_tools:
            agent.stamp = None

    def _land(self, agent: Agent, clock: float) -> None:
        """Merge the branch; the agent resolves a conflict in favour of what it wrote."""
        tip = git(agent.worktree.path, "rev-parse", "HEAD")
        self._ended[agent.name] = (clock, tip)
        self._look_at(agent, clock)
        if not succeeds(self._top, "merge", "-q", "--no-edit", "--no-ff", "-X", "theirs", tip):
            commit(self._top, f"Merge {agent.name}")
        self._head = git(self._top, "rev-parse", "main")

    # The radar, as a run uses it.

    def _look(self, agents: list[Agent], clock: float) -> None:
        for agent in agents:
            stamp = read_commit_stamp(agent.worktree)
            if stamp != agent.stamp or clock >= agent.looked_at + LOOK_SECONDS:
                agent.stamp, agent.looked_at = stamp, clock
                self._look_at(agent, clock)
        self._radar, said = announce(self._radar, (), {}, clock)
        for one in said:
            self._announced.setdefault(one.pair, clock)

    def _look_at(self, agent: Agent, clock: float) -> None:
        if (state := self._states.look(agent.worktree, self._head)) is None:
            return
        self._radar = see(self._radar, describe_branch(agent.name, state, 0, agent.began))
        if pairs := [pair for pair in list_pairs(self._radar, agent.name) if self._is_apart(pair)]:
            states = [find_states(self._radar, pair) for pair in pairs]
            merged = self._merger.merge(states, self._head)
            found = {pair: (one, paths or ()) for pair, one, paths in zip(pairs, states, merged, strict=True)}
            self._radar = note_merges(self._radar, found, clock)

    def _is_apart(self, pair: Pair) -> bool:
        """Whether neither branch contains the other."""
        return not any(one in self._begun_from[other] for one, other in (pair, pair[::-1]))

    # What really happened.

    def _judge(self) -> Played:
        names = sorted(self._ended)
        pairs = [make_pair(a, b) for a in names for b in names if a < b and self._is_apart(make_pair(a, b))]
        real = frozenset(pair for pair in pairs if self._conflicts(pair))
        known = frozenset(
            pair for pair in real if self._announced.get(pair, 1e9) < max(self._ended[one][0] for one in pair)
        )
        announced = frozenset(self._announced)
        return Played(real, known, announced, announced - real)

    def _conflicts(self, pair: Pair) -> bool:
        """Whether plain git reports a conflict between both branches as they landed."""
        tips = [self._ended[one][1] for one in pair]
        return not succeeds(self._top, "merge-tree", "--write-tree", *tips)


def make_repository(top: Path) -> None:
    top.mkdir(parents=True)
    git(top, "init", "-q", "-b", "main")
    set_identity(top)
    for number in range(FILES):
        path = top / name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"def f{number}_{line}(): return {line}\n" for line in range(LINES)))
    (top / LIST).write_text("".join(f"entry {number}\n" for number in range(20)))
    commit(top, "Begin")


def name(number: int) -> str:
    return f"src/part{number % FOLDERS}/file{number:02}.py"


def succeeds(directory: Path, *arguments: str) -> bool:
    """Whether a git command exits with 0."""
    return subprocess.run(["git", *arguments], cwd=directory, capture_output=True, check=False).returncode == 0


def commit(path: Path, subject: str) -> None:
    git(path, "add", "-A")
    git(path, "commit", "-q", "--allow-empty", "-m", subject)


def act(agent: Agent) -> None:
    """Let an agent do one thing: edit, undo, append to the list that all append to, rename, delete, commit or read."""
    pick, top = agent.random, agent.worktree.path
    action = pick.choices(list(ACTIONS), list(ACTIONS.values()))[0]
    number = int(agent.name[1:])
    own = name(SHARED + number * 2 + pick.randrange(2))
    match action:
        case "own":
            edit(agent, own, pick.randrange(LINES))
        case "shared":
            mine = pick.random() < OWN_PLACE
            place = number % PLACES if mine else pick.randrange(PLACES)
            edit(agent, name(pick.randrange(SHARED)), place * LINES // PLACES + pick.randrange(4))
        case "list":
            path = top / LIST
            remember(agent, LIST)
            path.write_text(f"{path.read_text()}entry of {agent.name} {agent.steps}\n")
        case "new":
            (top / f"src/part{number % FOLDERS}/new_{agent.name}_{agent.steps}.py").write_text(f"x = {agent.steps}\n")
        case "rename" if (top / own).exists():
            (top / own).rename((top / own).with_name(f"moved_{agent.name}_{agent.steps}.py"))
        case "delete":
            (top / name(pick.randrange(SHARED, FILES))).unlink(missing_ok=True)
        case "undo" if agent.undo:
            path, text = agent.undo.pop()
            if (top / path).exists():
                (top / path).write_text(text)
        case "commit":
            commit(top, f"{agent.name}: step {agent.steps}")
        case _:
            pass


def edit(agent: Agent, path: str, at: int) -> None:
    """Change a line, and half of the time add one after it."""
    file = agent.worktree.path / path
    if not file.exists():
        return
    remember(agent, path)
    lines = file.read_text().splitlines(keepends=True)
    at = min(at, len(lines) - 1)
    lines[at] = f"{lines[at].rstrip()}  # {agent.name}\n"
    if agent.random.random() < ADDED:
        lines.insert(at + 1, f"# {agent.name} {agent.steps}\n")
    file.write_text("".join(lines))


def remember(agent: Agent, path: str) -> None:
    agent.undo.append((path, (agent.worktree.path / path).read_text()))


def play(seed: int, *, sees_tools: bool) -> Played:
    """Play one graph in a temporary directory."""
    place = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        return Play(place, seed, sees_tools=sees_tools).run()
    finally:
        shutil.rmtree(place, ignore_errors=True)
