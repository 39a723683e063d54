"""Every way in which a run is told to end, or loses its terminal: work is kept, and nothing is left running."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from checker import Meant, check, snapshot_user_state
from coordinator_host import Started
from e2e.conftest import Coordinator, ask_until, read_until
from e2e.test_messages import count_starts, done, make_gated, open_gate
from generated_graphs import Made
from push.remote_harness import RemoteHarness
from running_processes import list_running
from user_isolation import isolate_user_settings

from flows.cli.display.terminal_run import REPEAT_SECONDS
from tasks_lib.process.marked_processes import find_marked
from tasks_lib.project.child_environment import REPOSITORY_MARKER

pytestmark = pytest.mark.xdist_group("prefect")
END_SECONDS = 120


@pytest.fixture
def begun() -> Iterator[list[Started]]:
    """Processes that are ended in the end, whatever the test makes of them."""
    processes: list[Started] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for_session(made: Made, process: Started) -> None:
    ask_until(lambda: process.poll() is not None or count_starts(made) >= 1, bool)
    assert process.poll() is None


def is_anything_left(top: Path) -> bool:
    return bool(find_marked(REPOSITORY_MARKER, str(top / ".git")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_run_that_is_told_to_end_keeps_the_work_and_says_one_sentence(
    number: signal.Signals, coordinator: Coordinator, begun: list[Started], tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 1, 1)
    process = coordinator.start("run", made.repository)
    begun.append(process)
    wait_for_session(made, process)
    process.send_signal(number)
    process.send_signal(number)  # `timeout`, and a terminal that closes, send theirs twice.
    output, _ = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 130, output
    assert "stopping the sessions; their work is kept" in output
    assert "Exiting at once" not in output
    assert "Traceback" not in output
    assert not is_anything_left(made.repository)
    code, output = coordinator.run("status", made.repository)
    assert (code, "ended" in output) == (130, True)


def test_second_ctrl_c_leaves_at_once_with_nothing_running(
    coordinator: Coordinator, begun: list[Started], tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 1, 0)
    stubborn = f"trap '' TERM; echo > {tmp_path}/up; while :; do sleep 1; done"
    settings = made.repository / "coordinator.yaml"
    text = settings.read_text(encoding="utf-8")
    text = text[: text.index("agent:")] + f'agent: {{command: [sh, -c, "{stubborn}"]}}\nwatch: {{stop_seconds: 250}}\n'
    settings.write_text(text, encoding="utf-8")
    process = coordinator.start("run", made.repository)
    begun.append(process)
    ask_until((tmp_path / "up").exists, bool)
    process.send_signal(signal.SIGINT)
    seen = read_until(process, "Ctrl-C: stopping the sessions")
    pause(REPEAT_SECONDS)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 130, seen + output
    assert "Exiting at once" in output
    assert not is_anything_left(made.repository)


def pause(seconds: float) -> None:
    """A second press is one that comes later than what counts as the same; no event says that time has gone by."""
    signal.sigtimedwait([], 2 * seconds)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteHarness:
    """A repository and its remote, whose hook holds each push until it is let go."""
    isolate_user_settings(monkeypatch, tmp_path)
    harness = RemoteHarness(tmp_path)
    harness.make({"a": {}})
    os.mkfifo(tmp_path / "gate")
    harness.hook("pre-receive", f"touch {tmp_path}/pushing; read -r _ < {tmp_path}/gate")
    return harness


def interrupt_a_push(coordinator: Coordinator, shared: RemoteHarness, begun: list[Started]) -> Started:
    """A run that was told to end while its remote holds a push."""
    process = coordinator.start("run", shared.top)
    begun.append(process)
    ask_until(lambda: (shared.place / "pushing").exists() or process.poll() is not None, bool)
    process.send_signal(signal.SIGINT)
    return process


def test_ctrl_c_during_a_push_says_at_once_what_it_waits_for_and_git_decides(
    coordinator: Coordinator, shared: RemoteHarness, begun: list[Started], tmp_path: Path
) -> None:
    process = interrupt_a_push(coordinator, shared, begun)
    read_until(process, "the push to origin (git will report whether it landed)")
    (tmp_path / "gate").write_text("go\n", encoding="utf-8")
    output, _ = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 0, output  # It was all done: git decides.
    assert shared.at() == shared.at_hub("main")


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "], ids=["git", "a hook that ignores TERM"])
def test_second_ctrl_c_during_a_push_leaves_it_to_the_next_run(
    trap: str, coordinator: Coordinator, shared: RemoteHarness, begun: list[Started], tmp_path: Path
) -> None:
    shared.hook("pre-receive", f"{trap}touch {tmp_path}/pushing; read -r _ < {tmp_path}/gate")
    process = interrupt_a_push(coordinator, shared, begun)
    read_until(process, "the push to origin")
    pause(REPEAT_SECONDS)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 130, output
    assert not is_anything_left(shared.top)
    shared.unhook("pre-receive")
    code, output = coordinator.run("run", shared.top)
    assert code == 0, output
    assert shared.hub_log() == ["Merge feat/a: Do a", "Begin"]
    assert shared.leftovers() == []


# Output that cannot be written.


@pytest.mark.parametrize("output", ["1>&- 2>&-", "> /dev/full", "2>&1 | head -1"])
def test_output_that_nobody_takes_changes_nothing_of_a_run(
    output: str, coordinator: Coordinator, tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 1, 0)
    before = snapshot_user_state(made.repository)
    line = f'set -o pipefail; "{sys.executable}" -m flows.cli run "{made.repository}" {output}'
    whole = subprocess.run(
        ["bash", "-c", line], env=coordinator.environment(), capture_output=True, text=True, check=False, timeout=END_SECONDS
    )  # fmt: skip
    assert whole.returncode == 0, whole.stderr
    assert "Traceback" not in whole.stderr
    assert check(made.repository, before=before, meant=Meant(done(1), made.verify)) == []


def test_reader_that_stops_reading_does_not_hold_up_a_run(
    coordinator: Coordinator, begun: list[Started], tmp_path: Path
) -> None:
    made = make_gated(tmp_path, 1, 1)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(1 << 12))
    os.set_blocking(writer, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", made.repository],
        env=coordinator.environment(),
        stdout=writer,
        text=True,
    )
    begun.append(process)
    os.close(writer)
    wait_for_session(made, process)
    open_gate(made)
    assert process.wait(END_SECONDS) == 0
    os.close(reader)


TAKE_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_terminal_that_is_closed_ends_a_run_its_agents_and_its_server(begun: list[Started], tmp_path: Path) -> None:
    made = make_gated(tmp_path, 1, 1)
    own = Coordinator(tmp_path / "data", "")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, sys.executable, "-m", "flows.cli", "run", str(made.repository)],
        env=own.environment({"TERM": "xterm"}), stdin=slave, stdout=slave, stderr=slave, start_new_session=True, text=True,
    )  # fmt: skip
    begun.append(process)
    os.close(slave)
    ask_until(lambda: process.poll() is not None or count_starts(made) >= 1, bool)
    children = psutil.Process(process.pid).children(recursive=True)
    os.close(master)
    assert process.wait(END_SECONDS) == 130
    assert children
    assert list_running(children) == []
    assert not is_anything_left(made.repository)
    assert not (tmp_path / "data" / "prefect" / "server.json").exists()
    assert own.run("status", made.repository)[0] == 130
