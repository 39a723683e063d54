"""Whether a turn is alive is decided from samples of what its processes have done."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.session.liveness import (
    ProcessSample,
    Sample,
    SilenceLimits,
    begin,
    describe,
    find_stall,
    observe,
)

LIMITS = SilenceLimits(stall_seconds=600, tool_seconds=3600, input_seconds=120)
STEP = 5.0


def process(pid: int = 10, command: str = "agent", **values: float | bool) -> ProcessSample:
    return ProcessSample(**{"pid": pid, "parent": 1, "started": 0.0, "command": command, **values})  # type: ignore[arg-type]


def first_stall(samples: list[Sample], limits: SilenceLimits = LIMITS) -> tuple[float, str]:
    """When the turn is ended and why; infinity if it never is."""
    liveness = begin(samples[0])
    for sample in samples[1:]:
        liveness = observe(liveness, sample)
        if said := find_stall(liveness, limits):
            return sample.at, said
    return math.inf, ""


def every_step(seconds: float, make: "dict[str, float]") -> list[Sample]:
    """Samples over `seconds` of one process whose counters grow by so much a second."""
    return [
        Sample(
            at,
            int(make.get("output", 0) * at),
            (
                process(
                    cpu_seconds=make.get("cpu", 0) * at,
                    reaped_seconds=make.get("reaped", 0) * at,
                    io_bytes=int(make.get("io", 0) * at),
                ),
            ),
        )
        for at in (number * STEP for number in range(int(seconds / STEP)))
    ]


@pytest.mark.parametrize(
    "rates",
    [{"cpu": 1.0}, {"cpu": 0.02}, {"reaped": 0.2}, {"io": 300}, {"output": 1}],
    ids=["burns a core", "an agent at work", "short commands", "an answer that arrives", "a log that grows"],
)
def test_turn_that_does_something_is_never_ended(rates: dict[str, float]) -> None:
    assert first_stall(every_step(10_000, rates)) == (math.inf, "")


@pytest.mark.parametrize(
    "rates",
    [{}, {"cpu": 0.004}, {"io": 6}, {"reaped": 0.02}],
    ids=["nothing", "timers", "keep-alive", "a loop that polls"],
)
def test_turn_in_which_nothing_happens_is_ended_and_says_what_runs(rates: dict[str, float]) -> None:
    at, said = first_stall(every_step(10_000, rates))
    assert abs(at - LIMITS.stall_seconds) <= STEP
    assert "nothing happened for 600 seconds" in said
    assert "running `agent`" in said


def test_silence_is_counted_from_the_last_activity() -> None:
    busy = every_step(1000, {"cpu": 1.0})
    still = [Sample(at, 0, busy[-1].processes) for at in (1000 + number * STEP for number in range(200))]
    assert abs(first_stall([*busy, *still])[0] - busy[-1].at - LIMITS.stall_seconds) <= STEP


def test_a_tool_may_be_silent_for_longer() -> None:
    tool = process(11, "pytest -x", started=60.0)
    samples = [Sample(at, 0, (process(), tool)) for at in (number * STEP for number in range(1000))]
    at, said = first_stall(samples)
    assert at == LIMITS.tool_seconds
    assert "running `pytest -x`" in said


def test_a_tool_that_waits_for_input_is_named_and_ended_soon() -> None:
    pager = process(12, "less log.txt", started=60.0, waits_for_input=True)
    at, said = first_stall([Sample(at, 0, (process(), pager)) for at in (number * STEP for number in range(1000))])
    assert at == LIMITS.input_seconds
    assert "`less log.txt` waits for input at its terminal" in said


def test_nothing_is_concluded_from_samples_that_show_too_little() -> None:
    assert first_stall([Sample(at * STEP, 0, (process(),), is_complete=False) for at in range(1000)])[1] == ""


def test_a_process_that_ends_and_another_with_its_number_are_two() -> None:
    liveness = begin(Sample(0, 0, (process(cpu_seconds=50.0),)))
    later = observe(liveness, Sample(STEP, 0, (process(started=3.0),)))
    assert later.active_at == 0
    assert describe(later) == "running `agent`"


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 5), st.floats(0, 1e4), st.integers(0, 1 << 40)), max_size=40)
)
def test_activity_is_never_later_than_the_last_sample_nor_earlier_than_the_first(
    rows: list[tuple[float, int, float, int]],
) -> None:
    liveness = begin(Sample(5.0, 0))
    for at, pid, cpu, io in rows:
        liveness = observe(liveness, Sample(at, 0, (process(pid, cpu_seconds=cpu, io_bytes=io),)))
        assert 5.0 <= liveness.active_at <= liveness.last.at
