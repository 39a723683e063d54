"""How many servers there are, what starts them, and when they are no longer restarted."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from server_fixtures import find_carriers, is_answered, make_fake_program, make_plan

from tasks_lib.agents.opencode.config.shell_environments import Shells
from tasks_lib.agents.opencode.servers.server_interface import Host
from tasks_lib.agents.opencode.servers.server_pool import STARTS, ServerPool
from tasks_lib.errors import AgentError

pytestmark = pytest.mark.xdist_group("opencode")


def make_fleet(directory: Path, *, seats: int = 25, well_seconds: float = 60.0, **environment: str) -> ServerPool:
    plan = make_plan(directory, make_fake_program(directory), environment=environment)
    shells = Shells(directory / "shells")
    return ServerPool(plan, shells, directory / "password", "secret word", seats=seats, well_seconds=well_seconds)


async def test_a_server_that_is_full_is_followed_by_another(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path, seats=2)
    seats = [await fleet.sit() for _ in range(5)]
    assert [seat.number for seat in seats] == [0, 0, 1, 1, 2]
    seats[0].leave()
    seats[0].leave()
    assert [(await fleet.sit()).number for _ in range(2)] == [0, 2]
    assert not (tmp_path / "data").exists()
    await fleet.close()


async def test_a_conversation_goes_on_where_it_was(tmp_path: Path) -> None:
    fleet: Host = make_fleet(tmp_path, seats=1)
    assert [(await fleet.sit(3)).number, (await fleet.sit(3)).number, (await fleet.sit()).number] == [3, 3, 0]


async def test_many_who_ask_at_once_get_one_server_each_with_places_of_its_own(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path, seats=5)
    seats = [await fleet.sit() for _ in range(10)]
    try:
        addresses = await asyncio.gather(*(seat.address() for seat in seats))
        assert len(set(addresses)) == 2
        assert {address.generation for address in addresses} == {1}
        assert len({address.url for address in addresses}) == 2
        assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["0", "1"]
        assert (tmp_path / "opencode-1.log").exists()
    finally:
        await fleet.close()
    assert not await is_answered(addresses[0])
    with pytest.raises(AgentError, match="the run is ending"):
        await seats[0].address()


async def test_who_stops_waiting_stops_nobody_elses_start(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path)
    seat = await fleet.sit()
    first, second = (asyncio.create_task(seat.address()) for _ in range(2))
    await asyncio.wait({first}, timeout=0)
    first.cancel()
    try:
        assert (await second).generation == 1
        assert first.cancelled()
    finally:
        await fleet.close()


async def test_a_server_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path, STAND_IN_DIES="1")
    seat = await fleet.sit()
    try:
        for generation in range(1, STARTS + 1):
            assert (await seat.address()).generation == generation
            await seat.wait_until_dead(generation)
        with pytest.raises(AgentError, match=rf"died {STARTS} times in a row .*opencode\.log"):
            await seat.address()
    finally:
        await fleet.close()


async def test_a_server_that_was_well_for_long_enough_may_die_again(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path, well_seconds=0.0, STAND_IN_DIES="1")
    seat = await fleet.sit()
    try:
        for generation in range(1, STARTS + 3):
            assert (await seat.address()).generation == generation
            await seat.wait_until_dead(generation)
    finally:
        await fleet.close()


async def test_two_sessions_begin_at_the_same_time_and_no_third(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path, seats=1)
    seats = [await fleet.sit() for _ in range(6)]
    inside, most = 0, 0
    both = asyncio.Barrier(2)

    async def begin(number: int) -> None:
        nonlocal inside, most
        async with seats[number].boot():
            inside += 1
            most = max(most, inside)
            await both.wait()
            inside -= 1

    await asyncio.gather(*(begin(number) for number in range(6)))
    assert most == 2


async def test_closing_is_done_once_and_to_its_end_even_when_cancelled(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path, seats=1)
    await asyncio.gather(*[(await fleet.sit()).address() for _ in range(3)])
    close = asyncio.create_task(fleet.close())
    await asyncio.wait({close}, timeout=0)
    close.cancel()
    with pytest.raises(asyncio.CancelledError):
        await close
    assert find_carriers("COORDINATOR_REPOSITORY", str(tmp_path)) == []
    await fleet.close()


async def test_a_fleet_that_is_closed_while_a_server_starts_leaves_none(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path)
    seat = await fleet.sit()
    start = asyncio.create_task(seat.address())
    await asyncio.wait({start}, timeout=0)
    await fleet.close()
    with pytest.raises(AgentError):
        await start
    assert find_carriers("COORDINATOR_REPOSITORY", str(tmp_path)) == []


def test_the_line_that_attaches_hands_on_the_password_without_showing_it(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, ("printenv",))
    fleet = ServerPool(plan, Shells(tmp_path / "shells"), tmp_path / "a password", "secret word")
    assert "secret" not in fleet.attach_prefix
    line = f"{fleet.attach_prefix} OPENCODE_SERVER_PASSWORD"
    assert subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout == "secret word\n"
    assert (tmp_path / "a password").stat().st_mode & 0o077 == 0
