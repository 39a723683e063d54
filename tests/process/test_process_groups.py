"""Process groups, with real processes that do everything they can to stay alive."""

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from shell_runner import PATH, Runner, find_marked, has_gone

from tasks_lib.errors import AgentError
from tasks_lib.process.process_groups import KEPT_LOG_BYTES, MARKER, MAX_LOG_BYTES, GroupId, end_groups, run_group


async def test_both_outputs_are_appended_to_the_log_and_their_range_is_told(runner: Runner) -> None:
    runner.log.write_text("before\n")
    ended = await runner.run("echo out; echo err >&2")
    assert runner.output() == "before\nout\nerr\n"
    assert (ended.log_start, ended.log_end) == (7, 15)
    assert (ended.status, ended.timed_out, ended.stopped, ended.left_running) == (0, False, False, False)
    assert ended.ended >= ended.started


async def test_an_exit_status_and_a_signal_are_told_apart(runner: Runner) -> None:
    assert (await runner.run("exit 3")).status == 3
    assert (await runner.run("kill -KILL $$")).status == -signal.SIGKILL


async def test_the_environment_is_the_one_given_and_a_marker(runner: Runner, tmp_path: Path) -> None:
    await run_group(
        ["/usr/bin/env"], cwd=tmp_path, environment={"A": "1"}, log=runner.log, timeout_seconds=9, stop_seconds=1
    )
    assert {line.partition("=")[0] for line in runner.output().splitlines()} == {"A", MARKER}


async def test_a_large_input_arrives_whole(runner: Runner) -> None:
    await runner.run("wc -c", stdin=b"x" * 1_000_000)
    assert runner.output().strip() == "1000000"


async def test_an_input_that_is_never_read_holds_nobody_up(runner: Runner) -> None:
    assert (await runner.run("exec <&-; exit 0", stdin=b"x" * 1_000_000)).status == 0


async def test_a_program_without_input_reads_an_end(runner: Runner) -> None:
    assert (await runner.run("cat")).status == 0


async def test_a_program_that_closes_its_output_is_waited_for(runner: Runner) -> None:
    ended = await runner.run("exec >&- 2>&-; touch done; exit 4")
    assert ended.status == 4
    assert (runner.directory / "done").exists()


async def test_a_daemon_with_a_session_of_its_own_is_ended_after_a_normal_exit(runner: Runner) -> None:
    ended = await runner.run("setsid sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' & exit 0")
    assert (ended.status, ended.stopped) == (0, True)
    assert find_marked(runner.session) == []


async def test_a_member_of_the_group_without_the_marker_is_ended_too(runner: Runner) -> None:
    await runner.run("env -i sleep 1000 & echo $!")
    assert has_gone(int(runner.output()))


async def test_a_descendant_without_group_and_marker_is_ended_while_its_parent_lives(runner: Runner) -> None:
    # `setsid --fork` would lose the parent; here the process is still a child when the timeout expires.
    ended = await runner.run("env -i setsid sleep 1000 & echo $!; wait", timeout_seconds=1)
    assert ended.timed_out
    assert has_gone(int(runner.output()))


async def test_a_leftover_that_ignores_term_is_killed(runner: Runner) -> None:
    ended = await runner.run(
        "sh -c 'trap \"\" TERM; echo ready > events; sleep 1000' & read x < events", stop_seconds=0.2
    )
    assert ended.stopped
    assert find_marked(runner.session) == []


async def test_a_program_that_ignores_term_is_killed_when_its_time_is_up(runner: Runner) -> None:
    ended = await runner.run("trap '' TERM; while :; do sleep 1000; done", timeout_seconds=1, stop_seconds=0.2)
    assert (ended.timed_out, ended.stopped, ended.status) == (True, True, -signal.SIGKILL)


async def test_term_comes_first_so_that_a_program_can_clean_up(runner: Runner) -> None:
    script = "trap 'echo cleaned; exit 0' TERM; echo ready; sleep 1000 & wait"
    ended = await runner.run(script, timeout_seconds=1)
    assert (ended.timed_out, ended.status) == (True, 0)
    assert runner.output() == "ready\ncleaned\n"
    assert ended.log_end == len("ready\ncleaned\n")


async def test_one_that_starts_others_while_it_is_ended_loses_them_all(runner: Runner) -> None:
    script = "trap '' TERM; while :; do setsid sleep 1000 & sleep 0.02; done"
    await runner.run(script, timeout_seconds=0.3, stop_seconds=0.3)
    assert find_marked(runner.session) == []


async def test_one_that_starts_its_successor_whenever_it_is_told_to_end_is_killed(
    runner: Runner, tmp_path: Path
) -> None:
    again = tmp_path / "again.sh"
    again.write_text(f"trap 'sh {again} & exit' TERM\nwhile :; do sleep 0.01; done\n")
    await runner.run(f"sh {again}", timeout_seconds=0.3, stop_seconds=0.3)
    assert find_marked(runner.session) == []


async def test_cancelling_ends_the_group_and_is_raised(runner: Runner) -> None:
    running = asyncio.ensure_future(runner.run("setsid sleep 1000 & echo ready > events; sleep 1000"))
    await runner.hear()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert find_marked(runner.session) == []


LARGE = """
import socket, threading
memory = bytearray(b"x") * 400_000_000
listening = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=threading.Event().wait, daemon=True).start()
open("events", "w").write(str(listening.getsockname()[1]))
threading.Event().wait()
"""
"""The kernel takes a while to free its memory; until then the process counts as ended, but its port is taken."""


async def test_a_cancelled_program_is_gone_with_its_port(runner: Runner) -> None:
    (runner.directory / "large.py").write_text(LARGE)
    running = asyncio.ensure_future(runner.run(f"exec {sys.executable} -S large.py"))
    port = int(await runner.hear())
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_cancelling_again_does_not_leave_anything_behind(runner: Runner) -> None:
    script = "trap 'echo term > events' TERM; echo ready > events; while :; do sleep 1000 & wait; done"
    running = asyncio.ensure_future(runner.run(script, stop_seconds=1))
    await runner.hear()
    running.cancel()
    await runner.hear()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert find_marked(runner.session) == []


async def test_cancelling_before_the_start_is_over_records_and_ends_the_group(runner: Runner) -> None:
    seen: list[GroupId] = []
    running = asyncio.ensure_future(runner.run("sleep 1000", on_start=seen.append))
    asyncio.get_running_loop().call_soon(running.cancel)
    with pytest.raises(asyncio.CancelledError):
        await running
    [group] = seen
    assert has_gone(group.pid)


async def test_tearing_the_event_loop_down_ends_the_group(runner: Runner) -> None:
    def run_and_leave() -> None:
        async def main() -> None:
            task = asyncio.ensure_future(runner.run("trap '' TERM; echo ready > events; sleep 1000", stop_seconds=0.2))
            await runner.hear()
            assert not task.done()

        asyncio.run(main())

    await asyncio.to_thread(run_and_leave)
    assert find_marked(runner.session) == []


async def test_the_group_is_recorded_before_it_is_waited_for(runner: Runner) -> None:
    seen: list[tuple[GroupId, int]] = []

    def record(group: GroupId) -> None:
        seen.append((group, os.getpgid(group.pid)))

    await runner.run("sleep 0.1; echo $$", on_start=record)
    [(group, leader)] = seen
    assert group.pid == leader == int(runner.output())
    assert abs(group.started - time.time()) < 60


async def test_a_record_that_cannot_be_written_ends_the_group(runner: Runner) -> None:
    def fail(group: GroupId) -> None:
        raise OSError(f"no space to record {group.pid}")

    with pytest.raises(OSError, match="no space"):
        await runner.run("sleep 1000", on_start=fail)
    assert find_marked(runner.session) == []


async def test_output_is_told_while_the_program_runs(runner: Runner) -> None:
    script = "echo working; until [ -e heard ]; do sleep 0.05; done"
    ended = await runner.run(script, on_output=(runner.directory / "heard").touch)
    assert ended.status == 0


async def test_what_is_to_stay_is_left_running_until_it_is_ended(runner: Runner) -> None:
    seen: list[GroupId] = []
    ended = await runner.run("env -i sleep 1000 & echo $!", keep_background=True, on_start=seen.append)
    assert (ended.stopped, ended.left_running) == (False, True)
    assert not has_gone(int(runner.output()))
    assert await end_groups(seen, 5, session=runner.session)
    assert has_gone(int(runner.output()))
    assert not await end_groups(seen, 5, session=runner.session)


async def test_ending_one_group_leaves_the_others_alone(tmp_path: Path, session: str) -> None:
    (tmp_path / "long").mkdir()
    (tmp_path / "short").mkdir()
    long, short = Runner(tmp_path / "long", f"{session}-long"), Runner(tmp_path / "short", session)
    running = asyncio.ensure_future(long.run("echo ready > events; read x < events; echo through"))
    await long.hear()
    await short.run("sleep 1000", timeout_seconds=0.2)
    assert not running.done()
    await asyncio.to_thread(long.events.write_text, "go\n")
    assert (await running).status == 0
    assert long.output() == "through\n"


@pytest.mark.parametrize("program", ["no-such-program", "./no-such-program", "/no/such/program"])
async def test_a_program_that_is_not_there_is_named_with_what_to_do(tmp_path: Path, program: str) -> None:
    with pytest.raises(AgentError, match=r"no.such.program` was not found .*: install it, or correct"):
        await start(tmp_path, program)


async def test_a_file_that_is_not_executable_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "agent").write_text("#!/bin/sh\n")
    with pytest.raises(AgentError, match=r"`\./agent` is not an executable file: chmod \+x it"):
        await start(tmp_path, "./agent")


async def test_a_missing_interpreter_is_told_from_a_missing_program(tmp_path: Path) -> None:
    (tmp_path / "agent").write_text("#!/no/such/interpreter\n")
    (tmp_path / "agent").chmod(0o755)
    with pytest.raises(AgentError, match=r"the interpreter in the first line of `.*` does not exist"):
        await start(tmp_path, "./agent")


async def test_a_file_of_no_known_format_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "agent").write_text("echo no first line\n")
    (tmp_path / "agent").chmod(0o755)
    with pytest.raises(AgentError, match="Exec format error"):
        await start(tmp_path, "./agent")


async def test_a_directory_that_is_gone_is_told_from_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="gone does not exist"):
        await start(tmp_path / "gone", "sh")


async def start(directory: Path, program: str) -> None:
    log = Path(f"{directory}.log")
    await run_group([program], cwd=directory, environment={"PATH": PATH}, log=log, timeout_seconds=9, stop_seconds=1)


async def test_a_log_that_is_filled_keeps_its_beginning_and_its_end(runner: Runner) -> None:
    fill = f"head -c {MAX_LOG_BYTES + 5_000_000} /dev/zero | tr '\\0' x"
    # Once the middle is cut out, and until more is appended, the log is shorter than the limit.
    size = f"size=$(stat -c %s {runner.log})"
    wait = f"until {size}; [ $size -lt {MAX_LOG_BYTES} ] && [ $size -gt {2 * KEPT_LOG_BYTES} ]; do sleep 0.05; done"
    ended = await runner.run(f"echo first; {fill}; {wait}; echo; echo last")
    text = runner.output()
    assert text.startswith("first\nxxx")
    assert text.endswith("xxx\nlast\n")
    assert "bytes omitted here: a log keeps at most 64 MiB of one program]" in text
    assert len(text) == ended.log_end - ended.log_start < 2 * KEPT_LOG_BYTES + 1000


async def test_what_stood_in_the_log_before_is_not_cut(runner: Runner) -> None:
    await runner.run("echo before")
    ended = await runner.run(f"head -c {MAX_LOG_BYTES + 1} /dev/zero")
    assert runner.output().startswith("before\n\0\0")
    assert ended.log_end < MAX_LOG_BYTES


async def test_a_pipe_in_the_place_of_the_log_holds_nobody_up(runner: Runner) -> None:
    os.mkfifo(runner.log)
    await runner.run("head -c 200000 /dev/zero; echo done")
    assert runner.output().endswith("done\n")
