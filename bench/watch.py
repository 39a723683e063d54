"""Measures how well stalls and loops are told from slow work: on real process trees, on turns replayed from recorded
ones, and on generated turns."""

import asyncio
import math
import os
import random
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench import figures, watch_events
from bench.figures import judge_least
from bench.watch_traces import TRACES, Step, follow, is_installed, list_trees, read_trace, replay, settle
from tasks_lib.agents.command_watch import MAX_INTERVAL_SECONDS
from tasks_lib.process.process_activity import take_sample
from tasks_lib.process.process_groups import GroupId
from tasks_lib.process.process_table import Claim
from tasks_lib.session.liveness import ProcessSample, Sample, SilenceLimits, begin, find_stall, observe

LIMITS = SilenceLimits(stall_seconds=600, tool_seconds=3600, input_seconds=120)
"""The defaults of `watch`."""
HEALTHY, STALLED = 1000, 100
HELD_OUT_SEED = 1_000_000
"""The thresholds were chosen on seeds from 0; figures are for seeds from here on."""
TURN_SECONDS = 7200.0
CAUGHT_PERCENT, DELAY_TARGET, CPU_PERCENT = 95, 2.0, 3
SESSIONS = 30
LIVE_LIMITS = SilenceLimits(stall_seconds=6, tool_seconds=6, input_seconds=3)
LIVE_SECONDS = 15.0
SAMPLE_SECONDS = 0.3


def run() -> str:
    """Judge real process trees and generated turns, and measure what watching costs."""
    return "\n".join([*measure_live(), *measure_generated(), *measure_events(), measure_cost()])


# Real process trees, with short limits.


def measure_live() -> Iterator[str]:
    limits = LIVE_LIMITS
    yield f"Real process trees, limits of {limits.stall_seconds:g} s and {limits.input_seconds:g} s (at a terminal):"
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        place = Path(name)
        for tree, (is_healthy, command) in list_trees(place).items():
            if not is_installed(command):
                yield f"  {tree:<20} not installed"
                continue
            at, said, lasted = _judge_live(asyncio.run(follow(command, place, LIVE_SECONDS, SAMPLE_SECONDS)))
            if is_healthy:
                yield f"  {tree:<20} {'ended by mistake: ' + said if said else f'left alone for {lasted:.0f} s'}"
            else:
                limit = limits.input_seconds if "waits for input" in said else limits.stall_seconds
                yield f"  {tree:<20} {f'caught after {at / limit:.2f} of its limit' if said else 'MISSED'}: {said}"


def _judge_live(samples: Sequence[Sample]) -> tuple[float, str, float]:
    """When the tree is found stalled and why, "" if it is not, and for how long it was watched; in seconds."""
    begin_at, liveness = samples[0].at, begin(samples[0])
    for sample in samples[1:]:
        liveness = observe(liveness, sample)
        if said := find_stall(liveness, LIVE_LIMITS):
            return sample.at - begin_at, said, samples[-1].at - begin_at
    return math.inf, "", samples[-1].at - begin_at


# Generated turns, with the default limits.


Generator = Callable[[random.Random], Iterator[Step]]
INTERVAL = MAX_INTERVAL_SECONDS


def _pause(seconds: float, noise: random.Random, *, has_tool: bool = False) -> Iterator[Step]:
    """Silence with the timers and keep-alive traffic of an idle program."""
    for _ in range(int(seconds / INTERVAL)):
        yield Step(own=noise.uniform(0, 0.005) * INTERVAL, data=noise.uniform(0, 8) * INTERVAL, has_tool=has_tool)


def think(draw: random.Random) -> Iterator[Step]:
    """A model that thinks long before it answers, and answers slowly."""
    while True:
        yield from _pause(min(draw.lognormvariate(3, 1.2), 0.9 * LIMITS.stall_seconds), draw)
        for _ in range(draw.randint(1, 30)):
            yield Step(own=draw.uniform(0.003, 0.2), data=draw.uniform(80, 4000) * INTERVAL)


def build(draw: random.Random) -> Iterator[Step]:
    """A build that burns cores in silence, and waits for downloads in between."""
    while True:
        for _ in range(draw.randint(5, 200)):
            yield Step(own=draw.uniform(0, 0.5), reaped=draw.uniform(0.3, 2) * INTERVAL, has_tool=True)
        yield from _pause(draw.uniform(0, 90), draw, has_tool=True)


def test_slowly(draw: random.Random) -> Iterator[Step]:
    """Tests that sleep for minutes, and print a line now and then."""
    while True:
        yield Step(own=0.1, output=draw.randint(10, 200), has_tool=True)
        yield from _pause(draw.uniform(10, 1500), draw, has_tool=True)


def wait_for_others(draw: random.Random) -> Iterator[Step]:
    """A loop that asks a hosted check for its state, for up to fifty minutes, between rounds of work."""
    while True:
        for _ in range(int(draw.uniform(60, 3000) / INTERVAL)):
            yield Step(reaped=draw.uniform(0, 0.04) * INTERVAL, has_tool=True)
        for _ in range(draw.randint(3, 40)):
            yield Step(own=draw.uniform(0.06, 1), data=9000)


def retry(draw: random.Random) -> Iterator[Step]:
    """An agent that a provider limits: a request every one to five minutes."""
    while True:
        yield Step(own=draw.uniform(0.05, 0.2), data=draw.uniform(2000, 9000))
        yield from _pause(draw.uniform(60, 300), draw)


def download(draw: random.Random) -> Iterator[Step]:
    """A slow download."""
    while True:
        yield Step(own=draw.uniform(0, 0.02), data=draw.uniform(100, 1e6) * INTERVAL, has_tool=True)


def hang(draw: random.Random) -> Iterator[Step]:
    """A request that is never answered: timers and keep-alive traffic only."""
    yield from _pause(TURN_SECONDS, draw)


def hang_in_a_tool(draw: random.Random) -> Iterator[Step]:
    """A tool in a deadlock."""
    yield from _pause(TURN_SECONDS, draw, has_tool=True)


def poll_for_ever(draw: random.Random) -> Iterator[Step]:
    """A loop of short commands that waits for what never comes."""
    while True:
        yield Step(reaped=draw.uniform(0, 0.03) * INTERVAL, has_tool=True)


def ask(draw: random.Random) -> Iterator[Step]:
    """A pager, an editor or a question at a terminal."""
    for step in _pause(TURN_SECONDS, draw, has_tool=True):
        yield replace(step, waits=True)


def _replay(samples: Sequence[Sample]) -> Generator:
    return lambda draw: replay(samples, draw)


RECORDED = [read_trace(path) for path in sorted(TRACES.glob("*.json"))]
WORK: Mapping[str, Generator] = {
    **{one.__name__: one for one in (think, build, test_slowly, wait_for_others, retry, download)},
    **{f"recorded: {name}": _replay(samples) for name, is_healthy, samples in RECORDED if is_healthy},
}
STALLS: Mapping[str, tuple[Generator, float]] = {
    "hang": (hang, LIMITS.stall_seconds),
    "hang in a tool": (hang_in_a_tool, LIMITS.tool_seconds),
    "poll for ever": (poll_for_ever, LIMITS.tool_seconds),
    "ask": (ask, LIMITS.input_seconds),
    **{
        f"recorded: {name}": (
            _replay(settle(samples)),
            LIMITS.input_seconds if any(one.waits_for_input for one in samples[-1].processes) else LIMITS.tool_seconds,
        )
        for name, is_healthy, samples in RECORDED
        if not is_healthy
    },
}
"""Each kind of stall with the limit that applies to it; recorded trees are tools of a turn."""


def make_samples(steps: Iterator[Step], seconds: float, first: Sample) -> Iterator[Sample]:
    """The samples of a turn; the agent is process 1, its tool process 2."""
    own = reaped = data = 0.0
    output, at, tools = first.output_bytes, first.at, 0
    had_tool = False
    for step in steps:
        at += INTERVAL
        if at > seconds:
            return
        own, reaped, data, output = own + step.own, reaped + step.reaped, data + step.data, output + step.output
        tools += int(step.has_tool and not had_tool)
        had_tool = step.has_tool
        agent = ProcessSample(1, 0, 0.0, "agent", own, reaped, int(data))
        tool = ProcessSample(2, 1, 100.0 * tools, "tool", waits_for_input=step.waits)
        yield Sample(at, output, (agent, tool) if step.has_tool else (agent,))


def judge(samples: Iterator[Sample]) -> float:
    """When the turn is ended; infinity if it never is."""
    liveness = begin(Sample(0.0, 0, (ProcessSample(1, 0, 0.0, "agent"),)))
    for sample in samples:
        liveness = observe(liveness, sample)
        if find_stall(liveness, LIMITS):
            return sample.at
    return math.inf


def measure_generated() -> Iterator[str]:
    ended = dict.fromkeys(WORK, 0)
    start, names = Sample(0.0, 0), list(WORK)
    for number in range(HEALTHY):
        draw, name = random.Random(HELD_OUT_SEED + number), names[number % len(names)]
        ended[name] += judge(make_samples(WORK[name](draw), TURN_SECONDS, start)) < math.inf
    told = ", ".join(f"{name} {number}" for name, number in ended.items() if number)
    yield (
        f"Turns of programs, generated and replayed, default limits, seeds held out: {sum(ended.values())} of "
        f"{HEALTHY} healthy ones ended{f': {told}' if told else ''}, "
        f"{figures.judge('watch: healthy programs ended', sum(ended.values()), 0)}"
    )
    delays: list[float] = []
    kinds = list(STALLS.values())
    for number in range(STALLED):
        draw, (kind, limit) = random.Random(HELD_OUT_SEED + number), kinds[number % len(kinds)]
        delays.append(_measure_delay(draw, kind) / limit)
    yield tell_delays("stalls of programs", delays)


def tell_delays(what: str, delays: Sequence[float]) -> str:
    """How many of these were found, and how late, as shares of their limits."""
    caught = sum(delay <= DELAY_TARGET for delay in delays) / len(delays)
    return (
        f"  {caught:.0%} of {len(delays)} {what} ended within twice their limit, "
        f"{judge_least(f'watch: {what} ended in time, %', 100 * caught, CAUGHT_PERCENT)}; after "
        f"{sorted(delays)[len(delays) // 2]:.2f} of it in the middle, {max(delays):.2f} at most"
    )


def _measure_delay(draw: random.Random, kind: Generator) -> float:
    """Seconds from the beginning of a stall, after some work, until it is found."""
    work = draw.choice((think, build, retry, download))
    begins = int(draw.uniform(60, 3000) / INTERVAL)

    def steps() -> Iterator[Step]:
        working = work(draw)
        for _ in range(begins):
            yield next(working)
        yield Step(own=1.0)
        yield from kind(draw)

    return judge(make_samples(steps(), 6 * TURN_SECONDS, Sample(0.0, 0))) - (begins + 1) * INTERVAL


def measure_events() -> Iterator[str]:
    ended = watch_events.count_ended(HELD_OUT_SEED, HEALTHY)
    told = ", ".join(f"{name} {number}" for name, number in ended.items() if number)
    yield (
        f"Turns as opencode's events tell them, generated, default limits, seeds held out: {sum(ended.values())} of "
        f"{HEALTHY} healthy ones ended{f': {told}' if told else ''}, "
        f"{figures.judge('watch: healthy opencode turns ended', sum(ended.values()), 0)}"
    )
    stalls = watch_events.list_delays(HELD_OUT_SEED, STALLED, watch_events.STALLS, in_calls=False)
    yield tell_delays("stalls of opencode", stalls)
    yield tell_delays("loops", watch_events.list_delays(HELD_OUT_SEED, STALLED, watch_events.LOOPS, in_calls=True))


def measure_share() -> float:
    """The processor time of watching many sessions at once, as a share of one core."""
    claims = [Claim((), f"none-{number}", is_watched=False) for number in range(SESSIONS - 1)]
    claims.append(Claim((GroupId(os.getpgrp(), 0.0),), "", is_watched=True))
    rounds, log = 5, Path(os.devnull)
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(rounds):
        for number, claim in enumerate(claims):
            # All sessions share the process table, which is read twice in each interval.
            take_sample(claim, log, 0 if number in (0, SESSIONS // 2) else math.inf)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used / rounds / MAX_INTERVAL_SECONDS


def measure_cost() -> str:
    share = measure_share()
    verdict = figures.judge(f"watch: {SESSIONS} sessions, % of a core", 100 * share, CPU_PERCENT)
    return f"Watching {SESSIONS} sessions takes {share:.2%} of one core, {verdict}"
