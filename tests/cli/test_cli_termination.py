"""Every way in which a command loses its streams or its terminal, or gets a signal to end, with real processes."""

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from cli_fixtures import SETTINGS, Call, UserRepository

from flows.termination_signals import ENDING
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.naming import flatten
from tasks_lib.runtime.status_board import Board, NodeView, RunView, now_text

END_SECONDS = 120
"""Not an assertion: it ends a test that would hang."""
GONE_SECONDS = 300
PROGRAM = (sys.executable, "-m", "flows.cli")
READING = ("plan", "status --json", "run --dry-run", "logs left")
CLOSED = {"standard output": "1>&-", "standard error": "2>&-", "standard input": "0<&-", "all": "0<&- 1>&- 2>&-"}


def write_log(repo: UserRepository, node: str, text: str) -> Path:
    folder = repo.repository.state_dir / "logs" / flatten(node)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "session-1.log"
    log.write_text(text, encoding="utf-8")
    return log


def shell(line: str, repo: UserRepository) -> "subprocess.CompletedProcess[bytes]":
    """Run `line` in a shell that defines `coordinator`; return the completed process."""
    script = f'coordinator() {{ "{sys.executable}" -m flows.cli "$@"; }}\n{line}'
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], cwd=repo.top, capture_output=True, check=False, timeout=END_SECONDS
    )


@pytest.fixture
def logged(repo: UserRepository) -> UserRepository:
    """A repository whose node `left` has a long log."""
    write_log(repo, "left", "a line\n" * 40_000)
    return repo


@pytest.mark.parametrize("command", READING)
def test_reader_that_leaves_ends_a_command_without_a_word(command: str, logged: UserRepository, call: Call) -> None:
    whole = call(*command.split(), cwd=logged.top)
    done = shell(f"coordinator {command} | true", logged)
    assert (done.returncode, done.stderr) == (whole.returncode, b"")


@pytest.mark.parametrize("closed", CLOSED.values(), ids=list(CLOSED))
def test_stream_that_was_closed_at_the_start_changes_nothing_else(
    closed: str, repo: UserRepository, call: Call
) -> None:
    whole = call("status", cwd=repo.top)
    done = shell(f"coordinator status {closed}", repo)
    assert done.returncode == whole.returncode
    assert done.stdout == (b"" if "1>" in closed else whole.stdout.encode())
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("closed", CLOSED.values(), ids=list(CLOSED))
def test_stream_that_was_closed_is_none_for_the_python_that_starts_itself_again_either(
    closed: str, repo: UserRepository, call: Call
) -> None:
    done = shell(f"PYTHONPATH=/elsewhere coordinator status {closed}", repo)
    assert (done.returncode, b"Traceback" in done.stderr) == (call("status", cwd=repo.top).returncode, False)


@pytest.mark.parametrize("command", ["plan --json", "logs left"])
def test_full_disk_under_the_output_of_a_reading_command_is_said_and_fails_it(
    command: str, logged: UserRepository
) -> None:
    done = shell(f"coordinator {command} > /dev/full", logged)
    assert (done.returncode, done.stderr) == (1, b"standard output: No space left on device\n")


def test_full_disk_under_the_output_of_an_acting_command_does_not_change_what_it_did(repo: UserRepository) -> None:
    done = shell("coordinator cleanup > /dev/full", repo)
    assert (done.returncode, done.stderr) == (0, b"standard output: No space left on device\n")


def test_file_that_a_command_opens_never_takes_the_place_of_a_closed_stream(bare_repo: UserRepository) -> None:
    done = shell("coordinator init >&-", bare_repo)
    assert done.returncode == 0, done.stderr
    assert (bare_repo.top / "coordinator.yaml").read_text(encoding="utf-8").startswith("#")


def test_encoding_that_lacks_a_sign_ends_nothing(repo: UserRepository) -> None:
    repo.commit({"tasks/left.md": "---\nid: left\nname: Gräßlich … ✓\nstatus: pending\ndepends_on: []\n---\n"})
    done = shell("PYTHONIOENCODING=ascii coordinator plan", repo)
    assert (done.returncode, done.stderr) == (0, b"")


# Commands that run until they get a signal.


@contextmanager
def working(repo: UserRepository) -> Generator[Board]:
    """A run in progress, as other terminals see it."""
    repository = repo.repository
    repository.prepare()
    view = RunView("r1", "main", now_text(), os.getpid(), "here", nodes={"left": NodeView("left", "Do left")})
    board = Board(view, repository.state_dir / "run.json")
    with RunLock(repository.state_dir, "r1"):
        board.write()
        write_log(repo, "left", "begun\n")
        yield board


@contextmanager
def deaf_server(status: int = 201) -> Generator[str]:
    """The address of an API that answers POST requests with `status`, and every request with an empty body."""

    class Deaf(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._answer(status)

        def do_GET(self) -> None:
            self._answer(404)

        def do_DELETE(self) -> None:
            self._answer(204)

        def _answer(self, code: int) -> None:
            self.send_response(code)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Deaf)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def start(repo: UserRepository, *arguments: str, **options: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*PROGRAM, *arguments], cwd=repo.top, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options  # pyright: ignore
    )  # fmt: skip


WAITING = {
    "logs": (("logs", "left", "--follow"), b"==>", 130),
    "status": (("status", "--watch"), b"left", 0),
}


@pytest.mark.parametrize("number", ENDING, ids=lambda one: one.name)
@pytest.mark.parametrize("name", WAITING)
def test_signal_ends_what_only_looks_on(name: str, number: signal.Signals, repo: UserRepository) -> None:
    arguments, first, code = WAITING[name]
    with working(repo) as board:
        board.enter("left", "session", "turn 1")  # pyright: ignore[reportArgumentType]
        board.write()
        process = start(repo, *arguments)
        read_until(process, first, of_errors=name == "logs")
        process.send_signal(number)
        _, errors = process.communicate(timeout=END_SECONDS)
    assert process.returncode == code
    assert b"Traceback" not in errors


def read_until(process: "subprocess.Popen[bytes]", words: bytes, *, of_errors: bool = False) -> None:
    stream = process.stderr if of_errors else process.stdout
    assert stream
    for line in stream:
        if words in line:
            return
    raise AssertionError(f"it ended without {words!r}")


@pytest.mark.parametrize("number", ENDING, ids=lambda one: one.name)
def test_signal_ends_a_message_that_waits_for_its_answer(number: signal.Signals, repo: UserRepository) -> None:
    with deaf_server() as api, working(repo) as board:
        board.set_link("", api)
        board.write()
        process = start(repo, "message", "left", "hello")
        end_when_it_waits(process, number)
        _, errors = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors


def test_message_to_a_run_that_prefect_has_lost_says_how_to_end_it(repo: UserRepository) -> None:
    with deaf_server(404) as api, working(repo) as board:
        board.set_link("", api)
        board.write()
        _, errors = start(repo, "message", "left", "hello").communicate(timeout=END_SECONDS)
    assert f"kill -TERM {os.getpid()}".encode() in errors


def end_when_it_waits(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Send signal `number` once the program handles it; before that, Python is still starting."""
    caught = f"/proc/{process.pid}/status"
    while process.poll() is None:
        with open(caught, encoding="ascii") as status:  # noqa: PTH123
            mask = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))
        if mask >> (signal.SIGQUIT - 1) & 1:
            process.send_signal(number)
            return


def test_hangup_that_nohup_has_ignored_stays_ignored(repo: UserRepository) -> None:
    with working(repo):
        ignoring: Callable[[], object] = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
        process = start(repo, "logs", "left", "--follow", preexec_fn=ignoring)
        read_until(process, b"==>", of_errors=True)
        process.send_signal(signal.SIGHUP)
        write_log(repo, "left", "begun\nmore\n")
        read_until(process, b"more")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=END_SECONDS)
    assert process.returncode == 130


@pytest.mark.parametrize("name", WAITING)
def test_looking_on_ends_when_nobody_reads_any_more_though_nothing_is_written(name: str, repo: UserRepository) -> None:
    with working(repo) as board:
        board.enter("left", "session", "turn 1")  # pyright: ignore[reportArgumentType]
        board.write()
        process = start(repo, *WAITING[name][0])
        read_until(process, WAITING[name][1], of_errors=name == "logs")
        assert process.stdout
        process.stdout.close()
        assert process.wait(END_SECONDS) == 0


def test_signal_during_a_fetch_leaves_no_git_behind(repo: UserRepository, tmp_path: Path) -> None:
    hub, hang, begun = tmp_path / "hub.git", tmp_path / "hang", tmp_path / "begun"
    repo.git.run("clone", "--quiet", "--bare", str(repo.top), str(hub))
    repo.git.run("remote", "add", "origin", str(hub))
    repo.git.run("fetch", "--quiet", "origin")
    repo.commit({"coordinator.yaml": f"{SETTINGS}land: {{mode: push}}\n"}, "Push")
    hang.write_text(f"#!/bin/sh\necho > {begun}\nexec sleep 300\n", encoding="utf-8")
    hang.chmod(0o755)
    os.mkfifo(begun)
    repo.git.run("config", "remote.origin.uploadpack", str(hang))
    process = start(repo, "run")
    begun.read_text(encoding="utf-8")
    children = psutil.Process(process.pid).children(recursive=True)
    try:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=END_SECONDS)
        gone, _ = psutil.wait_procs(children, GONE_SECONDS)
        assert (process.returncode, len(gone)) == (130, len(children)), errors
        assert children
    finally:
        for child in children:
            with suppress(psutil.Error):
                child.kill()


# Terminals.


@contextmanager
def on_terminal(
    repo: UserRepository, arguments: Sequence[str], **variables: str
) -> "Generator[tuple[subprocess.Popen[bytes], int]]":
    """Start `coordinator *arguments` as a session leader; yield it and the master end of its terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *PROGRAM, *arguments],
        cwd=repo.top, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm", **variables},
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        yield process, master
    finally:
        with suppress(OSError):
            os.close(master)
        if process.poll() is None:
            process.kill()
        process.wait()


TAKE_TERMINAL = """\
import fcntl, os, struct, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(os.environ.get("WIDTH", "80")), 0, 0))
os.execv(sys.argv[1], sys.argv[1:])
"""


def read_terminal_until(master: int, words: bytes) -> bytes:
    seen = b""
    while words not in seen:
        seen += os.read(master, 1 << 16)
    return seen


@pytest.mark.parametrize("name", WAITING)
def test_terminal_that_is_closed_ends_what_only_looks_on(name: str, repo: UserRepository) -> None:
    with working(repo) as board:
        board.enter("left", "session", "turn 1")  # pyright: ignore[reportArgumentType]
        board.write()
        with on_terminal(repo, WAITING[name][0]) as (process, master):
            read_terminal_until(master, WAITING[name][1])
            os.close(master)
            assert process.wait(END_SECONDS) in (0, 130)


@pytest.mark.parametrize(("width", "terminal"), [("0", "xterm"), ("1", "xterm"), ("7", "dumb"), ("80", "")])
def test_narrow_and_dumb_terminals_show_something(width: str, terminal: str, repo: UserRepository) -> None:
    with on_terminal(repo, ["status"], WIDTH=width, TERM=terminal, COLUMNS="") as (process, master):
        seen = b""
        with suppress(OSError):
            while block := os.read(master, 1 << 16):
                seen += block
        assert process.wait(END_SECONDS) == 1
    assert b"Traceback" not in seen
    assert b"has been run here yet" in seen


def test_dumb_terminal_is_told_in_lines_what_changes(repo: UserRepository) -> None:
    with working(repo) as board:
        board.enter("left", "session", "turn 1")  # pyright: ignore[reportArgumentType]
        board.write()
        with on_terminal(repo, ["status", "--watch"], TERM="dumb") as (process, master):
            assert b"left: session" in read_terminal_until(master, b"left: session")
            process.send_signal(signal.SIGINT)
            assert b"the run continues" in read_terminal_until(master, b"the run continues")
