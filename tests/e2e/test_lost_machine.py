"""A machine of sessions is cut off in the middle of a turn, or the server is: two machines with networks of their own."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from e2e.conftest import StartRun, ask_until, read_end, read_until
from e2e.spoke_machine import Hub, SpokeSite, add_repository, clone, list_left, read_turns, register, remote

from bench.second_machine import find_obstacle, find_processes, open_machine
from flows.prefect_server import Child
from tasks_lib.git.remote_sessions.session_remote import STATE

pytestmark = pytest.mark.xdist_group("prefect and lost machines")
needs_network = pytest.mark.skipif(bool(find_obstacle()), reason="a machine here has no network of its own")
LOST_SECONDS = 60
PROMISED_SECONDS = 180
"""How long it may take until the work of a lost machine continues elsewhere, with `lost_seconds` at its default."""
SETTINGS = {"spokes": {"remote": "origin", "prefer": "only", "lost_seconds": LOST_SECONDS}}


@pytest.fixture
def sites(server: Child, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SpokeSite]]:
    """Two machines that have registered the repository `work`, without workers."""
    remotes = tmp_path / "remotes"
    remotes.mkdir()
    with ExitStack() as stack:
        opened = [
            stack.enter_context(open_machine(SpokeSite, name, server.port, tmp_path_factory.getbasetemp(), remotes))
            for name in ("north", "south")
        ]
        for site in opened:
            for name in ("begun", "go"):
                site.signal(name)
        add_repository(opened[0], "work", SETTINGS)
        register(opened[1], "work")
        yield opened


def has_state(hub: Hub, site: SpokeSite) -> bool:
    return any(ref.endswith(STATE) for ref in hub.list_published(remote(site)))


def assert_nothing_left(hub: Hub, *sites: SpokeSite) -> None:
    for site in sites:
        ask_until(lambda site=site: list_left(site), lambda found: not found)
        assert find_processes(site, "work") == []
    assert hub.list_published(remote(sites[0])) == []


@needs_network
def test_a_machine_that_is_cut_off_costs_an_attempt_which_continues_elsewhere(
    sites: list[SpokeSite], start_run: StartRun, tmp_path: Path
) -> None:
    """When it is connected again after that, what it has done meanwhile is kept, and not merged."""
    north, south = sites
    script = """
if [ "$attempt" = 1 ]; then
  echo first > first.txt; commit first; tell begun; await go; echo late > late.txt; commit late; tell begun; await go
else test -f first.txt; tell begun; await go; work; fi"""
    hub = clone(north, tmp_path, {"lost": {"sh": script}})
    north.start_worker()
    run = start_run(hub.top)
    north.wait("begun")
    south.start_worker()
    ask_until(lambda: has_state(hub, north), bool)
    pushed = remote(north).text("for-each-ref", "--format=%(parent)", "refs/coordinator/sessions").split()
    north.signals["go"].send()
    north.wait("begun")
    north.cut_off()
    south.wait("begun", PROMISED_SECONDS)
    north.signals["go"].send()
    north.connect_again()
    ask_until(lambda: list_left(north), lambda found: not found)
    south.signals["go"].send()

    code, output = read_end(run)

    assert code == 0, output
    turns = [*read_turns(north, "lost"), *read_turns(south, "lost")]
    assert [(turn.attempt, turn.turn) for turn in turns] == [(1, 1), (2, 1)]
    assert_named(output, pushed)
    assert (hub.show("first.txt"), hub.has("late.txt"), hub.trailer("Attempt")) == ("first\n", False, "2")
    said = re.search(r"a session on north left work, which is kept at (refs/coordinator/kept/lost/\d+)", output)
    assert said, output
    assert hub.git.text("cat-file", "blob", f"{said[1]}:late.txt") == "late"
    assert_nothing_left(hub, *sites)


def assert_named(output: str, pushed: Sequence[str]) -> None:
    """What is missing is named, and up to which of the `pushed` commits it is not."""
    told = re.search(
        r"the session on north is lost: nothing was heard of it for (\d+) seconds, .*; its work up to (\w+)", output
    )
    assert told, output
    assert int(told[1]) < PROMISED_SECONDS - LOST_SECONDS
    assert any(commit.startswith(told[2]) for commit in pushed)
    assert "Missing is what it did after that" in output


@needs_network
def test_what_a_machine_finished_while_it_was_cut_off_is_taken_if_no_other_attempt_has_begun(
    sites: list[SpokeSite], start_run: StartRun, tmp_path: Path
) -> None:
    north = sites[0]
    hub = clone(north, tmp_path, {"returned": {"sh": "tell begun; await go; work"}})
    north.start_worker()
    run = start_run(hub.top)
    north.wait("begun")
    north.cut_off()
    said = read_until(run, "returned waits for a spoke: no spoke is online")
    north.signals["go"].send()
    north.connect_again()

    code, output = read_end(run)

    assert code == 0, output
    assert "the session on north is lost: nothing was heard of it for" in said
    assert "the session that was lost is back; attempt 1 continues with it" in output
    assert [(turn.attempt, turn.turn) for turn in read_turns(north, "returned")] == [(1, 1)]
    assert (hub.show("returned.txt"), hub.trailer("Attempt")) == ("returned\n", "1")
    assert_nothing_left(hub, north)


def test_nothing_is_given_up_while_the_server_is_away_for_longer(
    server: Child, sites: list[SpokeSite], start_run: StartRun, tmp_path: Path
) -> None:
    north = sites[0]
    hub = clone(north, tmp_path, {"outage": {"sh": "tell begun; await go; work"}})
    north.start_worker()
    run = start_run(hub.top)
    north.wait("begun")
    process = server.process()
    assert process
    process.suspend()
    north.api.cut()
    began = time.monotonic()
    try:
        north.signals["go"].send()
        ask_until(lambda: has_state(hub, north), bool)
        ask_until(lambda: time.monotonic() - began, lambda seconds: seconds > LOST_SECONDS + 10)
        assert run.poll() is None, run.communicate()[0]
    finally:
        north.api.join()
        process.resume()

    code, output = read_end(run)

    assert code == 0, output
    assert "is lost" not in output
    assert len(read_turns(north, "outage")) == 1
    assert_nothing_left(hub, north)
