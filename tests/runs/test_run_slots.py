"""How many sessions run at a time, and in which order they start."""

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from run_harness import RunHarness

from tasks_lib.runtime.git_access import GIT_THREADS
from tasks_lib.runtime.session_slots import SessionSlots


async def test_never_more_sessions_than_max_sessions(harness: RunHarness) -> None:
    count = "mkdir {live}/$$; ls {live} | wc -l >> {seen}; work; rmdir {live}/$$"
    live, seen = harness.place / "live", harness.place / "seen"
    live.mkdir()
    harness.make({f"n{number}": {} for number in range(6)}, count.format(live=live, seen=seen), verify=["true"])
    worked = await harness.work(max_sessions=2)
    assert set(worked.names.values()) == {"Merged"}
    assert {int(line) for line in seen.read_text().split()} <= {1, 2}


async def test_node_in_the_queue_frees_its_slot_for_another_session(harness: RunHarness) -> None:
    """The first node's verify waits for the second's session: if the first kept its slot, neither could continue."""
    go = harness.place / "signals" / "go"
    wait = f"test -f b.txt || ! test -f a.txt || read x < {go}"
    harness.make({"a": {}, "b": {}}, "[ $id = b ] && tell go\nwork", verify=[wait], signals=["go"])
    worked = await harness.work(max_sessions=1)
    assert set(worked.names.values()) == {"Merged"}


async def test_first_agent_begins_while_the_worktrees_of_others_are_still_written(harness: RunHarness) -> None:
    """A filter lets git write the first worktree at once, and the others only when an agent has started."""
    count = 2 * GIT_THREADS
    begun = harness.place / "signals" / "begun"
    tell_all = f"yes '' | head -n {count} > {begun}; work"
    attributes = {".gitattributes": "slow.txt filter=slow\n", "slow.txt": "slow\n"}
    harness.make({f"n{number}": {} for number in range(count)}, tell_all, files=attributes, signals=["begun"])
    slow = f"mkdir {harness.place}/first 2>/dev/null || timeout 60 head -c 1 {begun} >/dev/null; cat"
    harness.git.run("config", "filter.slow.smudge", slow)
    worked = await harness.work(max_sessions=count)
    assert set(worked.names.values()) == {"Merged"}


async def test_longest_remaining_path_starts_first(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}, "z": {}, "z2": {"depends_on": ["z"]}, "z3": {"depends_on": ["z2"]}})
    worked = await harness.work(max_sessions=1)
    assert worked.started[0] == "z"
    assert len(worked.started) == 5


async def test_only_works_what_is_named(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}, "c": {"depends_on": ["a"]}})
    worked = await harness.work(only=["a"])
    assert worked.names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1"]


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30), st.integers(1, 4))
async def test_slots_serve_by_rank_then_arrival_and_lose_none_to_cancellation(
    waiters: Sequence[tuple[int, bool]], size: int
) -> None:
    slots = SessionSlots(size)
    for _ in range(size):
        await slots.acquire(0)
    served: list[int] = []

    async def wait(number: int, rank: int) -> None:
        await slots.acquire(rank)
        served.append(number)
        slots.release()

    jobs = [asyncio.ensure_future(wait(number, rank)) for number, (rank, _) in enumerate(waiters)]
    await asyncio.sleep(0)
    for job, (_, is_cancelled) in zip(jobs, waiters, strict=True):
        if is_cancelled:
            job.cancel()
    slots.release()
    await asyncio.gather(*jobs, return_exceptions=True)
    expected = sorted((rank, number) for number, (rank, is_cancelled) in enumerate(waiters) if not is_cancelled)
    assert served == [number for _, number in expected]
    for _ in range(size - 1):
        slots.release()
    assert slots.free == size
