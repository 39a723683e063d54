"""Whole runs in virtual time with agents that misbehave as a seed says; `python -m bench seeds` runs hundreds."""

import asyncio
import os
import threading

import pytest

from bench.seeds import BLOCKED, Played, describe, draw, play
from bench.virtual_time import StuckError, VirtualTimeLoop, simulate

SEEDS = (1172, 1358)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seeded_run_ends_and_keeps_every_promise(seed: int) -> None:
    played = play(seed)
    assert played.faults == ()
    assert set(played.outcomes) >= set(draw(seed).edges)


def test_the_seeds_cover_blocked_nodes_limits_and_skips() -> None:
    plots = [draw(seed) for seed in SEEDS]
    assert any(plot.outages for plot in plots)
    assert any(BLOCKED & {part.behaviour for part in plot.parts.values()} for plot in plots)
    assert len({part.behaviour for plot in plots for part in plot.parts.values()}) >= 10


def test_a_broken_promise_is_reported_with_its_seed() -> None:
    broken = Played(7, ("n1 landed before n0",), {}, {}, 0, 0, 4, ())
    assert "broken promises: 1, target at most 0: missed\n  seed 7: n1 landed before n0\n" in describe([broken])


def test_virtual_time_jumps_to_the_next_timer() -> None:
    async def main(loop: VirtualTimeLoop) -> float:
        await asyncio.sleep(1_000_000)
        return loop.time()

    assert simulate(main) == 1_000_000


def test_virtual_time_stands_still_while_a_thread_works() -> None:
    async def main(loop: VirtualTimeLoop) -> float:
        went_on = threading.Event()
        timer = asyncio.create_task(asyncio.sleep(10))
        loop.call_soon(went_on.set)
        await asyncio.to_thread(went_on.wait)
        assert not timer.done()
        return loop.time()

    assert simulate(main) == 0


def test_virtual_time_stands_still_while_a_process_runs_unless_it_waits_for_the_simulation() -> None:
    async def main(loop: VirtualTimeLoop) -> tuple[float, float]:
        read, write = os.pipe()
        process = await asyncio.create_subprocess_exec("cat", stdin=read)
        os.close(read)
        with loop.idling():
            await asyncio.sleep(10)
        at_end = loop.time()
        asyncio.get_running_loop().call_later(0, os.close, write)
        await process.wait()
        return at_end, loop.time()

    assert simulate(main) == (10, 10)


def test_a_simulation_that_would_wait_for_ever_is_an_error() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        await loop.create_future()

    with pytest.raises(StuckError):
        simulate(main)
