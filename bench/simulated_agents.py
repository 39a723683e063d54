"""Agents for simulations: they commit with real git, take virtual time, and misbehave as a seed says."""

import asyncio
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tasks_lib.agents.backend import Need, ProviderState, Session, SessionSpec, TurnEnd, TurnSpec
from tasks_lib.session.spending import Spent

SHARED = "shared.txt"
"""The file that conflicting agents append to."""
_MARKS = ("<<<<<<< ", "=======", ">>>>>>> ")


class Behaviour(StrEnum):
    """What the agent of a node does besides working; "once" means in its first turn only."""

    WORKS = "works"
    CRASHES = "crashes once"
    IDLES = "commits nothing once"
    LITTERS = "leaves uncommitted files once"
    STALLS_ONCE = "stalls once"
    STALLS = "stalls in every turn"
    LOOPS = "repeats itself once"
    RED_ONCE = "is red once"
    RED = "is red in every turn"
    CONFLICTS = "conflicts"
    REVIEWED = "has a review that asks for changes once"
    REFUSED = "has reviews that always ask for changes"
    ASKS = "blocks on a question that a resolver answers"
    ASKS_IN_VAIN = "blocks on a question that a resolver answers with nonsense"
    NEEDS_PERSON = "blocks on a decision for a person"


BLOCKED = frozenset(
    {Behaviour.STALLS, Behaviour.RED, Behaviour.REFUSED, Behaviour.ASKS_IN_VAIN, Behaviour.NEEDS_PERSON}
)
"""Behaviours that end with a blocked node."""
RETURNED = frozenset({Behaviour.REVIEWED, Behaviour.REFUSED})


@dataclass(frozen=True, slots=True)
class Part:
    """What the agent of a node does: each of its turns takes `seconds`."""

    behaviour: Behaviour
    seconds: float


@dataclass
class Cast:
    """The agents of a run: a part for each node id, and `outages` (start, end) of their provider.

    `clock` is in seconds since the epoch, and so are the outages. A stalled turn lasts `stall_seconds`. `commits` are
    all that they made, `turns` counts the turns of each session.
    """

    parts: Mapping[str, Part]
    outages: Sequence[tuple[float, float]]
    stall_seconds: float
    clock: Callable[[], float]
    commits: list[str] = field(default_factory=list[str])
    reviews: dict[str, int] = field(default_factory=dict[str, int])
    turns: int = 0
    limited: int = 0


class SimulatedBackend:
    """Opens sessions of a cast."""

    def __init__(self, cast: Cast) -> None:
        self._cast: Cast = cast

    async def prepare(self, needs: Sequence[Need]) -> None:
        """Do nothing: these agents have every role."""

    async def close(self) -> None:
        """Do nothing: they start nothing that lasts."""

    def open(self, spec: SessionSpec) -> Session:
        """Open a session for `spec`."""
        return SimulatedSession(self._cast, spec)

    def name_model(self, role: str, model: str) -> str:
        """Return "": there is none."""
        return ""

    def find_provider(self, role: str, model: str) -> ProviderState:
        """Until when the provider accepts no prompt."""
        now = self._cast.clock()
        return ProviderState(max((end for start, end in self._cast.outages if start <= now < end), default=0.0))


class SimulatedSession:
    """One agent's conversation."""

    def __init__(self, cast: Cast, spec: SessionSpec) -> None:
        self._cast: Cast = cast
        self._spec: SessionSpec = spec
        self._part: Part = cast.parts.get(spec.task_id, Part(Behaviour.WORKS, 10))

    async def prompt(self, text: str, turn: TurnSpec) -> TurnEnd:
        """Take a turn of virtual time, and commit."""
        cast, began = self._cast, self._cast.clock()
        cast.turns += 1
        is_first = turn.turn == 1 and turn.attempt == 1
        is_worker = self._spec.role not in ("code-reviewer", "resolver")
        behaviour = self._part.behaviour if is_worker else Behaviour.WORKS
        if behaviour is Behaviour.STALLS or (behaviour is Behaviour.STALLS_ONCE and is_first):
            return await self._end_after(cast.stall_seconds, stall="nothing happened any more")
        if behaviour is Behaviour.LOOPS and is_first:
            return await self._end_after(self._part.seconds, loop="it repeated one call")
        await asyncio.sleep(self._part.seconds)
        seconds = cast.clock() - began
        if any(start <= cast.clock() < end for start, end in cast.outages):
            cast.limited += 1
            return TurnEnd(75, False, "", "the quota is used up", seconds, _spend(seconds), is_limited=True)
        if behaviour is Behaviour.CRASHES and is_first:
            return TurnEnd(1, False, "it broke", "the agent exited with 1", seconds, _spend(seconds))
        answer = await asyncio.to_thread(self._act, text, turn, is_first=is_first)
        return TurnEnd(0, False, answer, "", seconds, _spend(seconds))

    async def _end_after(self, seconds: float, *, stall: str = "", loop: str = "") -> TurnEnd:
        await asyncio.sleep(seconds)
        return TurnEnd(-15, False, "", stall or loop, seconds, _spend(seconds), stall=stall, loop=loop)

    async def say(self, text: str) -> bool:
        """Return False: these agents read their prompts only."""
        return False

    def attach_command(self) -> str:
        """Return "": there is nothing to attach to."""
        return ""

    async def close(self) -> None:
        """Do nothing: nothing is left."""

    def _act(self, text: str, turn: TurnSpec, *, is_first: bool) -> str:
        """Do the work of one turn in the worktree; return the answer. Blocking."""
        match self._spec.role:
            case "code-reviewer":
                return self._review()
            case "resolver":
                return self._resolve()
            case _:
                return self._work(text, turn, is_first=is_first)

    def _review(self) -> str:
        seen = self._cast.reviews[self._spec.task_id] = self._cast.reviews.get(self._spec.task_id, 0) + 1
        refuses = self._part.behaviour is Behaviour.REFUSED or seen == 1
        if self._part.behaviour in RETURNED and refuses:
            return f"- [blocking] {self._name()}:1: name it better\n\nVerdict: changes requested"
        return "- [answered] 1\n- [met] It is there\n\nVerdict: approved"

    def _resolve(self) -> str:
        match self._part.behaviour:
            case Behaviour.ASKS:
                return f"Resolution: context\nContext: {_fact(self._spec.task_id)}"
            case Behaviour.ASKS_IN_VAIN:
                return "Resolution: context\nContext: Try harder."
            case _:
                return "Resolution: person\nPerson: somebody has to decide"

    def _work(self, text: str, turn: TurnSpec, *, is_first: bool) -> str:
        behaviour = self._part.behaviour
        if not is_first:
            self._catch_up(turn.target)
        if behaviour in (Behaviour.ASKS, Behaviour.ASKS_IN_VAIN) and _fact(self._spec.task_id) not in text:
            self._commit(f"blocked({self._spec.task_id}): which code?\n\nKind: context\nTried: {turn.attempt}")
            return "It is not said which code."
        if behaviour is Behaviour.NEEDS_PERSON:
            self._commit(f"blocked({self._spec.task_id}): which rule?\n\nKind: decision")
            return "Somebody has to decide."
        if behaviour is Behaviour.IDLES and is_first:
            return "Done."
        is_red = behaviour is Behaviour.RED or (behaviour is Behaviour.RED_ONCE and is_first)
        lines = [f"{self._spec.task_id}\n", *(["BROKEN\n"] if is_red else []), f"turn {turn.attempt}.{turn.turn}\n"]
        self._write(self._name(), "".join(lines))
        if behaviour is Behaviour.CONFLICTS:
            shared = self._spec.cwd / SHARED
            line, before = f"{self._spec.task_id} was here\n", shared.read_text()
            shared.write_text(before if line in before else before + line)
        if behaviour is Behaviour.LITTERS and is_first:
            return "Done, I think."
        self._commit(f"feat({self._spec.task_id}): turn {turn.attempt}.{turn.turn}")
        return f"Wrote {self._name()}."

    def _catch_up(self, target: str) -> None:
        """Commit what is left, and merge the target; a conflict is resolved by keeping both sides."""
        self._git("add", "-A")
        if self._git("diff", "--cached", "--quiet", is_checked=False):
            self._git("commit", "-q", "-m", "what was left")
        if self._git("merge", "-q", "--no-edit", target, is_checked=False):
            shared = self._spec.cwd / SHARED
            kept = [line for line in shared.read_text().splitlines(keepends=True) if not line.startswith(_MARKS)]
            shared.write_text("".join(kept))
            self._commit("merge what landed")

    def _name(self) -> str:
        return f"work-{self._spec.task_id}.txt"

    def _write(self, name: str, text: str) -> None:
        Path(self._spec.cwd, name).write_text(text)

    def _commit(self, message: str) -> None:
        self._git("add", "-A")
        self._git("commit", "-q", "--allow-empty", "-m", message)
        head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=self._spec.cwd, env=self._spec.environment)
        self._cast.commits.append(head.decode().strip())

    def _git(self, *arguments: str, is_checked: bool = True) -> int:
        """Run git in the worktree; return its exit status."""
        words = ["git", *arguments]
        done = subprocess.run(words, cwd=self._spec.cwd, env=self._spec.environment, capture_output=True, check=False)
        if done.returncode and is_checked:
            raise RuntimeError(f"`{' '.join(words)}` exited with {done.returncode}: {done.stderr.decode()}")
        return done.returncode


def _fact(task_id: str) -> str:
    return f"The code of {task_id} is {sum(task_id.encode()) * 7919 % 10_007}."


def _spend(seconds: float) -> Spent:
    return Spent(turns=1, seconds=seconds)
