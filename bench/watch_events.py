"""Turns of opencode as its events tell them, generated: how well loops and stalls are told from slow work."""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count

from tasks_lib.repetition import MAX_SAME_ERRORS, MAX_SAME_RESULTS
from tasks_lib.session import events as ev
from tasks_lib.session import state
from tasks_lib.session.events import Event, Member, Retry, Snapshot, Tool
from tasks_lib.session.liveness import ProcessSample, Sample
from tasks_lib.session.next_action import CheckWorktree, End, Limits, Poll, Read, SampleShells, Wait, decide
from tasks_lib.session.spending import Spent

LIMITS = Limits(stall_seconds=600, tool_seconds=3600, ends_at=7200, limit_seconds=900, input_seconds=120)
"""The defaults of `watch`."""
ROOT = "root"


@dataclass(frozen=True, slots=True)
class Act:
    """One answer of the model with one tool call: seconds of thinking and of the call, infinity for ever.

    `cpu` is the share of a core that its processes use, `pause` how long they do nothing in between. `changes` says
    that it changes the worktree. With `retry` the provider first asks to wait for so many seconds.
    """

    given: str
    result: str
    think: float = 5.0
    seconds: float = 1.0
    error: str = ""
    cpu: float = 0.0
    pause: float = 0.0
    waits: bool = False
    changes: bool = False
    retry: float = 0.0


Acts = Callable[[random.Random], Iterator[Act]]


class SimulatedTurn:
    """A turn on a fake clock: its events come as the acts say, and its decisions are carried out."""

    def __init__(self, acts: Iterator[Act]) -> None:
        self.watch = state.begin(ROOT, 0.0)
        self.now: float = 0.0
        self.calls: int = 0
        self.heard_at: float = 0.0
        self._acts: Iterator[Act] = acts
        self._coming: list[Event] = [ev.Sent(0.0, ROOT), ev.Busy(0.0, ROOT)]
        self._act: Act = Act("", "")
        self._act_at: float = 0.0
        self._work: int = 0

    def run(self) -> End:
        """Follow the turn to its end."""
        while True:
            if not self._coming:
                self._plan(next(self._acts))
            match decision := decide(self.watch, self.now, LIMITS):
                case End():
                    return decision
                case Wait(until):
                    self._pass(until)
                case Poll() | Read() | SampleShells() | CheckWorktree():
                    self.watch = state.observe(self.watch, self._answer(decision))
                case _:
                    raise AssertionError(f"{decision} at {self.now}")

    def _pass(self, until: float) -> None:
        if not self._coming or self._coming[0].at > until:
            self.now = until
            return
        event = self._coming.pop(0)
        self.now = self.heard_at = max(self.now, event.at)
        self.watch = state.observe(self.watch, event)
        if isinstance(event, ev.ToolStarted):
            self._act_at, self.calls = self.now, self.calls + 1
        if isinstance(event, ev.ToolEnded):
            self._work += self._act.changes

    def _plan(self, act: Act) -> None:
        self._act, number, at = act, self.calls, self.now
        if act.retry:
            self._coming.append(ev.Retrying(at, ROOT, Retry(at + act.retry, "rate limit", is_rate_limit=True)))
            at += act.retry
        tool = Tool("bash", act.given)
        began, ends = at + act.think, at + act.think + act.seconds
        ended = ev.ToolEnded(
            ends, ROOT, f"call {number}", tool, act.given, act.result, bool(act.error), act.error, act.seconds
        )  # fmt: skip
        self._coming += [ev.StepStarted(at, ROOT), ev.ToolStarted(began, ROOT, f"call {number}", tool), ended]
        self._coming.append(ev.StepEnded(ends, ROOT, f"step {number}", Spent(calls=1)))

    def _answer(self, decision: Poll | Read | SampleShells | CheckWorktree) -> Event:
        match decision:
            case Poll():
                return ev.Polled(self.now, ROOT, {name: one.retry for name, one in self.watch.members.items()})
            case CheckWorktree(session):
                return ev.WorktreeChecked(self.now, session, str(self._work))
            case SampleShells():
                return ev.ShellsSampled(self.now, ROOT, self._sample())
            case Read():
                watch, member = self.watch, self.watch.members.get(ROOT, Member(is_busy=True))
                snapshot = Snapshot({ROOT: member}, prompts=1, growth=self.calls, progress=watch.progress.sessions)
                return ev.SnapshotTaken(self.now, ROOT, replace(snapshot, steps=watch.usage.steps))

    def _sample(self) -> Sample:
        act, ran = self._act, self.now - self._act_at
        # It works for as long as it pauses.
        rounds, rest = divmod(ran, 2 * act.pause) if act.pause else (0.0, ran)
        worked = rounds * act.pause + (min(rest, act.pause) if act.pause else rest)
        process = ProcessSample(9, 1, self._act_at, "make", act.cpu * worked, 0.0, 0, act.waits)
        return Sample(self.now, 0, (process,))


# Healthy turns.


def explore(draw: random.Random) -> Iterator[Act]:
    """An agent that reads, and some of it several times in a row."""
    for number in count():
        for _ in range(1 + draw.choice((0, 0, 0, 1, 2, 4))):
            yield Act(f"cat {number}", f"text {number}", think=draw.uniform(1, 40))


def develop(draw: random.Random) -> Iterator[Act]:
    """Edits and failing tests that say the same each time."""
    while True:
        yield Act("edit a.py", "edited", changes=True, think=draw.uniform(2, 90))
        failure = draw.choice(("assert 1 == 2", "KeyError: 'a'"))
        yield Act("pytest", failure, seconds=draw.uniform(1, 60), error=failure, cpu=0.9)


def poll(draw: random.Random) -> Iterator[Act]:
    """A wait for a hosted check: the same question, with a pause in it, and the same answer."""
    for number in count():
        for _ in range(draw.randint(5, 40)):
            yield Act("sleep 30; gh run view", "in progress", seconds=draw.uniform(25, 120))
        yield Act("gh run view", f"done {number}", changes=True)


def build(draw: random.Random) -> Iterator[Act]:
    """A build of up to an hour and a half that prints nothing, and waits for downloads in between."""
    for number in count():
        pause = draw.choice((0.0, draw.uniform(10, 300)))
        seconds = draw.uniform(60, 5400)
        yield Act(f"make {number}", f"built {number}", seconds=seconds, cpu=draw.uniform(0.1, 1), pause=pause)


def think(draw: random.Random) -> Iterator[Act]:
    """A model that says nothing for minutes before each call."""
    for number in count():
        yield Act(f"step {number}", "", think=min(draw.lognormvariate(3.5, 1.2), 0.9 * LIMITS.stall_seconds))


def sleep(draw: random.Random) -> Iterator[Act]:
    """Tests that sleep for up to 25 minutes."""
    for number in count():
        yield Act(f"pytest {number}", f"passed {number}", seconds=draw.uniform(60, 1500))


def be_limited(draw: random.Random) -> Iterator[Act]:
    """A provider that asks to wait before each answer."""
    for number in count():
        yield Act(f"step {number}", "", retry=draw.uniform(5, 300))


def stumble(draw: random.Random) -> Iterator[Act]:
    """The same error a few times in a row, before something else is tried."""
    for number in count():
        for again in range(draw.randint(1, MAX_SAME_ERRORS - 1)):
            yield Act(f"edit {number} {again}", "not found", error="oldString not found")
        yield Act(f"cat {number}", f"text {number}")


# Turns that have to be ended, with the limit that applies, in seconds or calls.


def hang(draw: random.Random) -> Iterator[Act]:
    del draw
    yield Act("never", "", think=math.inf)


def hang_in_a_tool(draw: random.Random) -> Iterator[Act]:
    yield Act("pytest", "", seconds=math.inf, cpu=draw.uniform(0, 0.004))


def ask(draw: random.Random) -> Iterator[Act]:
    yield Act("less log", "", seconds=math.inf, waits=True, cpu=draw.uniform(0, 0.004))


def repeat(draw: random.Random) -> Iterator[Act]:
    """One call."""
    while True:
        yield Act("cat a", "same", think=draw.uniform(1, 40))


def circle(draw: random.Random) -> Iterator[Act]:
    """Two to four calls in a circle."""
    period = draw.randint(2, 4)
    for number in count():
        yield Act(f"cat {number % period}", f"text {number % period}", think=draw.uniform(1, 40))


def fail(draw: random.Random) -> Iterator[Act]:
    """Calls that differ, and fail with the same error."""
    for number in count():
        yield Act(f"edit {number}", "", error=f"line {number}: oldString not found", think=draw.uniform(1, 40))


WORK: tuple[Acts, ...] = (explore, develop, poll, build, think, sleep, be_limited, stumble)
STALLS: Mapping[Acts, float] = {hang: 600.0, hang_in_a_tool: 3600.0, ask: 120.0}
LOOPS: Mapping[Acts, float] = {repeat: MAX_SAME_RESULTS, circle: MAX_SAME_RESULTS, fail: MAX_SAME_ERRORS}


def count_ended(first_seed: int, turns: int) -> Mapping[str, int]:
    """How many of so many healthy turns were ended before their time, by kind.

    A provider's wait that would outlast the turn ends it a little earlier, and is not a judgement of the agent.
    """
    ended = dict.fromkeys((one.__name__ for one in WORK), 0)
    for number in range(turns):
        work = WORK[number % len(WORK)]
        end = SimulatedTurn(work(random.Random(first_seed + number))).run()
        ended[work.__name__] += end.kind not in ("timed out", "waits too long")
    return ended


def list_delays(first_seed: int, turns: int, kinds: Mapping[Acts, float], *, in_calls: bool) -> list[float]:
    """How late each of so many bad turns was ended, in shares of the limit; infinity if it was not, or not for that."""
    delays: list[float] = []
    names = list(kinds)
    for number in range(turns):
        kind, draw = names[number % len(kinds)], random.Random(first_seed + number)
        healthy, before = draw.choice((explore, develop, stumble)), draw.randint(3, 60)
        turn = SimulatedTurn(_spoil(healthy(draw), before, kind(draw)))
        end = turn.run()
        late = turn.calls - before if in_calls else turn.now - turn.heard_at
        is_found = end.kind == ("loop" if in_calls else "stalled")
        delays.append(late / kinds[kind] if is_found else math.inf)
    return delays


def _spoil(healthy: Iterator[Act], before: int, bad: Iterator[Act]) -> Iterator[Act]:
    for _ in range(before):
        yield next(healthy)
    yield from bad
