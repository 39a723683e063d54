"""A turn whose shells work is never ended as silent; one whose shells do nothing, or wait for somebody to type, is."""

import math

import pytest

from tasks_lib.session import events as ev
from tasks_lib.session.events import Tool
from tasks_lib.session.liveness import ProcessSample, Sample
from tasks_lib.session.next_action import End, Limits, SampleShells, Wait, decide, describe
from tasks_lib.session.state import Watch, begin, observe

ROOT = "root"
LIMITS = Limits(stall_seconds=600, tool_seconds=3600, ends_at=36_000, input_seconds=120)
STEP = 5.0
BEGAN = 100.0
TOOL = ev.ToolStarted(BEGAN, ROOT, "1", Tool("bash", "make test"))


def follow(*, started: float = BEGAN, cpu: float = 0.0, io: float = 0.0, waits: float = False) -> tuple[float, str]:
    """When a turn is ended whose shell runs a process that uses so much each second, and why; infinity if it is not."""
    watch, at = start(), BEGAN
    while at < LIMITS.ends_at - STEP:
        match decide(watch, at, LIMITS):
            case End(_, sentence):
                return at, sentence
            case SampleShells():
                ran = at - BEGAN
                one = ProcessSample(7, 1, started, "sh -c make", cpu * ran, 0.0, int(io * ran), bool(waits))
                watch = observe(watch, ev.ShellsSampled(at, ROOT, Sample(at, 0, (one,))))
            case Wait(until):
                at = until
            case _:
                watch = observe(watch, ev.Polled(at, ROOT, {ROOT: None}))
                # A snapshot that shows nothing new was read.
                tool = ev.Member(is_busy=True, tools={"1": TOOL.tool})
                watch = observe(watch, ev.SnapshotTaken(at, ROOT, ev.Snapshot({ROOT: tool}, prompts=1)))
                at += 0.01
    return math.inf, ""


def start() -> Watch:
    watch = begin(ROOT, BEGAN - 2)
    tool = ev.Member(is_busy=True)
    first = ev.SnapshotTaken(BEGAN - 1, ROOT, ev.Snapshot({ROOT: tool}, prompts=1))
    for event in (ev.Sent(BEGAN - 2, ROOT), ev.Busy(BEGAN - 1, ROOT), first, TOOL):
        watch = observe(watch, event)
    return watch


@pytest.mark.parametrize("rates", [{"cpu": 1.0}, {"cpu": 0.02}, {"io": 300.0}], ids=["builds", "computes", "copies"])
def test_a_silent_tool_whose_processes_work_lasts_until_the_turns_own_limit(rates: dict[str, float]) -> None:
    assert follow(**rates) == (math.inf, "")


@pytest.mark.parametrize("rates", [{}, {"cpu": 0.004}, {"io": 6.0}], ids=["hangs", "timers", "keep-alive"])
def test_a_silent_tool_whose_processes_do_nothing_is_ended_with_what_runs(rates: dict[str, float]) -> None:
    at, said = follow(**rates)
    assert abs(at - BEGAN - LIMITS.tool_seconds) <= 2 * STEP
    assert "bash: make test; running `sh -c make`" in said


def test_a_program_that_waits_at_a_terminal_is_named_and_ended_soon() -> None:
    at, said = follow(waits=True)
    assert abs(at - BEGAN - LIMITS.input_seconds) <= 2 * STEP
    assert said.endswith("bash: make test; `sh -c make` waits for input at its terminal")


def test_a_program_that_an_earlier_command_left_at_a_terminal_is_nobody_to_wait_for() -> None:
    at, said = follow(started=BEGAN - 50, waits=True)
    assert abs(at - BEGAN - LIMITS.tool_seconds) <= 2 * STEP
    assert "waits for input" not in said


def test_shells_are_followed_only_while_a_tool_runs_one() -> None:
    watch = start()
    assert watch.shells
    sampled = observe(watch, ev.ShellsSampled(BEGAN + 5, ROOT, Sample(BEGAN + 5, 0)))
    ended = observe(sampled, ev.ToolEnded(BEGAN + 6, ROOT, "1", TOOL.tool))
    assert ended.shells is None
    late = observe(ended, ev.ShellsSampled(BEGAN + 7, ROOT, Sample(BEGAN + 7, 0)))
    assert (late, describe(late)) == (ended, "working")


def test_silence_counts_as_before_where_processes_cannot_be_observed() -> None:
    watch = observe(start(), ev.ShellsSampled(BEGAN + 5, ROOT, None))
    assert watch.times.active_at == BEGAN
    assert isinstance(decide(watch, BEGAN + 6, LIMITS), Wait)
