"""Whose turn it is at the head, when several branches wait to land."""

import asyncio
from collections.abc import Collection, Sequence

import pytest

from tasks_lib.landing.queue_turns import MOST_OVERTAKEN, QueueTurns

Wish = tuple[str, float]


async def list_turns(wishes: Sequence[Wish], conflicting: Collection[str]) -> list[str]:
    """The names in the order in which they have their turn, all having come while somebody else had it."""
    turns, order = QueueTurns(), list[str]()
    await turns.acquire(0.0, lambda: False)

    async def land(name: str, rank: float) -> None:
        await turns.acquire(rank, lambda: name in conflicting)
        order.append(name)
        turns.release()

    jobs = [asyncio.create_task(land(*wish)) for wish in wishes]
    await asyncio.sleep(0)
    turns.release()
    await asyncio.gather(*jobs)
    return order


@pytest.mark.parametrize(
    ("wishes", "conflicting", "order"),
    [
        ([("a", 0), ("b", 0), ("c", 0)], "", "abc"),
        ([("a", 0), ("b", 0), ("c", 0)], "a", "bca"),
        ([("a", 0), ("b", 0), ("c", 0)], "abc", "abc"),
        ([("a", -1), ("b", 0), ("c", 0)], "ab", "acb"),
        ([("b", 0), ("a", -1)], "a", "ab"),
    ],
)
async def test_rank_comes_first_then_no_conflict_then_arrival(
    wishes: Sequence[Wish], conflicting: str, order: str
) -> None:
    assert "".join(await list_turns(wishes, conflicting)) == order


async def test_conflicting_branch_is_overtaken_a_limited_number_of_times() -> None:
    names = [f"n{number}" for number in range(MOST_OVERTAKEN + 2)]
    order = await list_turns([("late", 0.0), *((name, 0.0) for name in names)], ("late",))
    assert order.index("late") == MOST_OVERTAKEN


async def test_cancelled_waiter_takes_no_turn() -> None:
    turns = QueueTurns()
    await turns.acquire(0.0, lambda: False)
    waiting = asyncio.create_task(turns.acquire(0.0, lambda: False))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    turns.release()
    await turns.acquire(0.0, lambda: False)
    handed = asyncio.create_task(turns.acquire(0.0, lambda: False))
    await asyncio.sleep(0)
    turns.release()
    handed.cancel()
    await asyncio.wait([handed])
    await asyncio.wait_for(turns.acquire(0.0, lambda: False), 10)
