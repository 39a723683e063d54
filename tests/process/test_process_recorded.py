"""Groups that an earlier coordinator recorded, some of them gone and their pids reused."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from shell_runner import PATH, Runner, find_marked

from tasks_lib.process.process_groups import MARKER, GroupId, end_group
from tasks_lib.process.process_table import Claim, find, is_alive, read_start


def start_leader(session: str, script: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        ["sh", "-c", f"{script}\necho ready\nexec sleep 1000"],
        env={"PATH": PATH, MARKER: session} if session else {"PATH": PATH},
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


async def test_a_recorded_group_is_ended(session: str) -> None:
    leader = start_leader("", "sleep 1000 >/dev/null &")
    group = GroupId(leader.pid, read_start(leader.pid))
    members = find(Claim((group,), "", is_watched=True))
    assert len(members) == 2
    assert await end_group(group, 5, session=session)
    assert not any(is_alive(row) for row in members)
    leader.wait()
    assert not await end_group(group, 5, session=session)


async def test_a_recycled_number_is_never_signalled(session: str) -> None:
    stranger = start_leader("", "true")
    try:
        assert not await end_group(GroupId(stranger.pid, read_start(stranger.pid) - 60), 1, session=session)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("pid", [0, 1, -1])
async def test_no_recorded_group_means_none(session: str, pid: int) -> None:
    assert not await end_group(GroupId(pid, read_start(1)), 1, session=session)
    assert not await end_group(GroupId(pid, read_start(1)), 1)


async def test_members_outlive_their_leader_and_are_known_by_the_marker(session: str) -> None:
    leader = start_leader(session, "sleep 1000 >/dev/null & env -i sleep 1000 >/dev/null &")
    group = GroupId(leader.pid, read_start(leader.pid))
    leader.kill()
    leader.wait()
    members = find(Claim((group,), session, is_watched=False))
    assert len(members) == 2
    assert await end_group(group, 5, session=session)
    assert not any(is_alive(row) for row in members)


async def test_members_of_a_dead_leader_without_the_marker_are_left_alone(session: str) -> None:
    leader = start_leader("", "sleep 1000 >/dev/null &")
    group = GroupId(leader.pid, read_start(leader.pid))
    leader.kill()
    leader.wait()
    [member] = find(Claim((group,), "", is_watched=True))
    try:
        assert not await end_group(group, 1, session=session)
        assert is_alive(member)
    finally:
        os.kill(member.pid, signal.SIGKILL)


async def test_what_left_the_group_is_found_without_any_record(session: str) -> None:
    leader = start_leader(session, "setsid sleep 1000 >/dev/null &")
    assert await end_group(GroupId(0, 0.0), 5, session=session)
    leader.wait()


COORDINATOR = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from tasks_lib.process.process_groups import run_group
    path, directory, session = sys.argv[1:]
    environment = {"PATH": path, "COORDINATOR_SESSION": session}
    def tell(group):
        print(group.pid, group.started, flush=True)
    script = "setsid sleep 1000 & sleep 1000 & echo ready > events; sleep 1000"
    asyncio.run(run_group(["sh", "-c", script], cwd=Path(directory), environment=environment,
        log=Path(directory, "log"), timeout_seconds=60, stop_seconds=1, on_start=tell))
""")


async def test_the_group_of_a_killed_coordinator_is_ended_by_the_next(runner: Runner) -> None:
    arguments = [PATH, str(runner.directory), runner.session]
    program = [sys.executable, "-c", COORDINATOR, *arguments]
    coordinator = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - Killed just below.
    assert coordinator.stdout
    pid, started = coordinator.stdout.readline().split()
    await runner.hear()
    coordinator.kill()
    coordinator.communicate()
    assert len(find_marked(runner.session)) in (3, 4)  # The last `sleep` may not have been started yet.
    assert await end_group(GroupId(int(pid), float(started)), 5, session=runner.session)
    assert find_marked(runner.session) == []


INSIDE = textwrap.dedent("""
    import asyncio, os
    from tasks_lib.process.process_groups import GroupId, end_group
    from tasks_lib.process.process_table import read_start
    group = GroupId(os.getpgrp(), read_start(os.getpgrp()))
    print("ended", asyncio.run(end_group(group, 2, session=os.environ["COORDINATOR_SESSION"])))
""")


async def test_one_that_runs_inside_a_session_never_ends_itself_with_it(runner: Runner) -> None:
    (runner.directory / "inside.py").write_text(INSIDE)
    ended = await runner.run(f"sleep 1000 & {sys.executable} inside.py; echo after")
    assert (ended.status, ended.stopped) == (0, False)
    assert "ended True\nafter\n" in runner.output()
