"""How many servers there are, what starts them, and when they are no longer restarted."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from server_fixtures import find_carriers, is_answered, make_fake_program, make_plan

from tasks_lib.agents.opencode.config.shell_environments import Shells
from tasks_lib.agents.opencode.servers.server_interface import ServerSource
from tasks_lib.agents.opencode.servers.server_pool import STARTS, ServerPool
from tasks_lib.errors import AgentError

pytestmark = pytest.mark.xdist_group("opencode")


def make_pool(
    directory: Path, *, sessions_per_server: int = 25, well_seconds: float = 60.0, **environment: str
) -> ServerPool:
    plan = make_plan(directory, make_fake_program(directory), environment=environment)
    shells = Shells(directory / "shells")
    return ServerPool(
        plan,
        shells,
        directory / "password",
        "secret word",
        sessions_per_server=sessions_per_server,
        well_seconds=well_seconds,
    )


async def test_a_server_that_is_full_is_followed_by_another(tmp_path: Path) -> None:
    pool = make_pool(tmp_path, sessions_per_server=2)
    leases = [await pool.lease() for _ in range(5)]
    assert [lease.number for lease in leases] == [0, 0, 1, 1, 2]
    leases[0].leave()
    leases[0].leave()
    assert [(await pool.lease()).number for _ in range(2)] == [0, 2]
    assert not (tmp_path / "data").exists()
    await pool.close()


async def test_a_conversation_goes_on_where_it_was(tmp_path: Path) -> None:
    pool: ServerSource = make_pool(tmp_path, sessions_per_server=1)
    assert [(await pool.lease(3)).number, (await pool.lease(3)).number, (await pool.lease()).number] == [3, 3, 0]


async def test_many_who_ask_at_once_get_one_server_each_with_places_of_its_own(tmp_path: Path) -> None:
    pool = make_pool(tmp_path, sessions_per_server=5)
    leases = [await pool.lease() for _ in range(10)]
    try:
        addresses = await asyncio.gather(*(lease.address() for lease in leases))
        assert len(set(addresses)) == 2
        assert {address.generation for address in addresses} == {1}
        assert len({address.url for address in addresses}) == 2
        assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["0", "1"]
        assert (tmp_path / "opencode-1.log").exists()
    finally:
        await pool.close()
    assert not await is_answered(addresses[0])
    with pytest.raises(AgentError, match="the run is ending"):
        await leases[0].address()


async def test_who_stops_waiting_stops_nobody_elses_start(tmp_path: Path) -> None:
    pool = make_pool(tmp_path)
    lease = await pool.lease()
    first, second = (asyncio.create_task(lease.address()) for _ in range(2))
    await asyncio.wait({first}, timeout=0)
    first.cancel()
    try:
        assert (await second).generation == 1
        assert first.cancelled()
    finally:
        await pool.close()


async def test_a_server_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    pool = make_pool(tmp_path, STAND_IN_DIES="1")
    lease = await pool.lease()
    try:
        for generation in range(1, STARTS + 1):
            assert (await lease.address()).generation == generation
            await lease.wait_until_dead(generation)
        with pytest.raises(AgentError, match=rf"died {STARTS} times in a row .*opencode\.log"):
            await lease.address()
    finally:
        await pool.close()


async def test_a_server_that_was_well_for_long_enough_may_die_again(tmp_path: Path) -> None:
    pool = make_pool(tmp_path, well_seconds=0.0, STAND_IN_DIES="1")
    lease = await pool.lease()
    try:
        for generation in range(1, STARTS + 3):
            assert (await lease.address()).generation == generation
            await lease.wait_until_dead(generation)
    finally:
        await pool.close()


async def test_two_sessions_begin_at_the_same_time_and_no_third(tmp_path: Path) -> None:
    pool = make_pool(tmp_path, sessions_per_server=1)
    leases = [await pool.lease() for _ in range(6)]
    inside, most = 0, 0
    both = asyncio.Barrier(2)

    async def begin(number: int) -> None:
        nonlocal inside, most
        async with leases[number].boot():
            inside += 1
            most = max(most, inside)
            await both.wait()
            inside -= 1

    await asyncio.gather(*(begin(number) for number in range(6)))
    assert most == 2


async def test_closing_is_done_once_and_to_its_end_even_when_cancelled(tmp_path: Path) -> None:
    pool = make_pool(tmp_path, sessions_per_server=1)
    await asyncio.gather(*[(await pool.lease()).address() for _ in range(3)])
    close = asyncio.create_task(pool.close())
    await asyncio.wait({close}, timeout=0)
    close.cancel()
    with pytest.raises(asyncio.CancelledError):
        await close
    assert find_carriers("COORDINATOR_REPOSITORY", str(tmp_path)) == []
    await pool.close()


async def test_a_pool_that_is_closed_while_a_server_starts_leaves_none(tmp_path: Path) -> None:
    pool = make_pool(tmp_path)
    lease = await pool.lease()
    start = asyncio.create_task(lease.address())
    await asyncio.wait({start}, timeout=0)
    await pool.close()
    with pytest.raises(AgentError):
        await start
    assert find_carriers("COORDINATOR_REPOSITORY", str(tmp_path)) == []


def test_the_line_that_attaches_hands_on_the_password_without_showing_it(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, ("printenv",))
    pool = ServerPool(plan, Shells(tmp_path / "shells"), tmp_path / "a password", "secret word")
    assert "secret" not in pool.attach_prefix
    line = f"{pool.attach_prefix} OPENCODE_SERVER_PASSWORD"
    assert subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout == "secret word\n"
    assert (tmp_path / "a password").stat().st_mode & 0o077 == 0
