"""One run at a time locks a repository, a dead run's lock is free, and git's worktree admin files have one writer."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from tasks_lib.errors import BusyError, InputError
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import RunLock, admin_lock, read_dead_holder, read_holder

HOLD = """
import sys
from pathlib import Path
from tasks_lib.git.repository_lock import RunLock
with RunLock(Path(sys.argv[1]), "first"):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(state_dir: Path) -> "subprocess.Popen[str]":
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    return holder


def test_second_run_is_refused_and_told_who_holds_the_first(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        with pytest.raises(BusyError, match=rf"run first \(process {holder.pid} on"), RunLock(tmp_path, "second"):
            pass
        found = read_holder(tmp_path)
        assert found
        assert (found.pid, found.run) == (holder.pid, "first")
        holder.communicate("")
    assert read_holder(tmp_path) is None


def test_lock_of_a_killed_run_is_simply_taken(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        holder.kill()
    assert read_holder(tmp_path) is None
    with RunLock(tmp_path, "second"):
        found = read_holder(tmp_path)
        assert found
        assert (found.pid, found.run) == (os.getpid(), "second")


def test_lock_is_refused_within_one_process_and_free_after_release(tmp_path: Path) -> None:
    with RunLock(tmp_path, "first"), pytest.raises(BusyError), RunLock(tmp_path, "second"):
        pass
    with RunLock(tmp_path, "third"):
        pass
    assert read_holder(tmp_path) is None


def test_lock_ends_with_its_holder_while_a_child_lives_on(tmp_path: Path) -> None:
    lock = RunLock(tmp_path, "first")
    with lock:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
        assert str(tmp_path / "lock") not in {
            str(fd.readlink()) for fd in Path(f"/proc/{child.pid}/fd").iterdir() if fd.is_symlink()
        }
    with child, RunLock(tmp_path, "second"):
        child.communicate(b"")


def test_who_died_holding_the_lock_is_known_to_the_next_and_who_gave_it_back_is_not(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        assert read_dead_holder(tmp_path) is None
        holder.kill()
    dead = read_dead_holder(tmp_path)
    assert dead
    assert (dead.pid, dead.run, dead.host) == (holder.pid, "first", socket.gethostname())
    with RunLock(tmp_path, "second") as lock:
        assert lock.left == dead
    assert read_dead_holder(tmp_path) is None
    with RunLock(tmp_path, "third") as lock:
        assert lock.left is None


def test_command_that_keeps_the_record_leaves_a_dead_holder_to_the_next_run(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        holder.kill()
    dead = read_dead_holder(tmp_path)
    with RunLock(tmp_path, "second", keeps_record=True):
        found = read_holder(tmp_path)
        assert found
        assert found.run == "second"
    assert (read_holder(tmp_path), read_dead_holder(tmp_path)) == (None, dead)
    with RunLock(tmp_path, "third") as lock:
        assert lock.left == dead
    with RunLock(tmp_path, "fourth", keeps_record=True):
        pass
    assert read_dead_holder(tmp_path) is None


def test_process_that_lives_and_has_the_number_of_the_dead_holder_does_not_hold_the_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(json.dumps({"host": socket.gethostname(), "pid": os.getppid(), "run": "first"}))
    assert read_holder(tmp_path) is None
    with RunLock(tmp_path, "second") as lock:
        assert lock.left
        assert lock.left.pid == os.getppid()


@pytest.mark.parametrize("content", [b"", b"\n", b"{", b"[1]", b"\xff\0", b'{"pid": "x", "host": 3}', b"[" * 5000])
def test_lock_is_refused_and_taken_whatever_its_content(tmp_path: Path, content: bytes) -> None:
    with start_holder(tmp_path) as holder:
        (tmp_path / "lock").write_bytes(content)
        with pytest.raises(BusyError, match=r"\(process \? on"), RunLock(tmp_path, "second"):
            pass
        assert read_holder(tmp_path) is not None
        holder.kill()
    with RunLock(tmp_path, "second"):
        pass


def make_link(lock: Path) -> None:
    (lock.parent / "precious").write_text("mine")
    lock.symlink_to("precious")


@pytest.mark.parametrize(
    ("make", "why"),
    [(make_link, "symbolic link"), (Path.mkdir, "irectory"), (os.mkfifo, "not a regular file")],
)
def test_lock_that_is_no_file_is_said_and_not_followed(tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    make(tmp_path / "lock")
    with pytest.raises(InputError, match=f"{tmp_path}/lock cannot be used as a lock: .*{why}"), RunLock(tmp_path, "a"):
        pass
    with pytest.raises(InputError, match="cannot be used as a lock"):
        read_holder(tmp_path)
    assert [path.read_text() for path in tmp_path.glob("precious")] in ([], ["mine"])


WITHOUT_RIGHTS = """
import os, sys
from pathlib import Path
from tasks_lib.errors import CoordinatorError
from tasks_lib.git.repository_lock import RunLock, read_holder
if os.getuid() == 0:
    os.setuid(65534)
print(read_holder(Path(sys.argv[1])))
try:
    with RunLock(Path(sys.argv[1]), "second"):
        print("taken")
except CoordinatorError as error:
    print(type(error).__name__, error)
"""


def test_lock_that_another_user_may_only_read_names_its_holder_and_is_refused(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        (tmp_path / "lock").chmod(0o444)
        for place in (tmp_path, *tmp_path.parents):
            if "pytest" in str(place):
                place.chmod(0o755)
        command = [sys.executable, "-c", WITHOUT_RIGHTS, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        holder.kill()
    assert done.returncode == 0, done.stderr
    held, refused = done.stdout.splitlines()
    assert held.startswith(f"run first (process {holder.pid} on")
    assert refused.startswith(f"InputError {tmp_path}/lock cannot be used as a lock: Permission denied")


def test_nobody_holds_a_lock_that_was_never_made(tmp_path: Path) -> None:
    assert read_holder(tmp_path / "none") is None


class Meeting:
    """Counts how many threads are inside at once; with `barrier`, each waits inside for another."""

    def __init__(self, barrier: threading.Barrier | None) -> None:
        self.barrier = barrier
        self.inside = self.most = 0
        self.mutex = threading.Lock()

    def visit(self, lock: AbstractContextManager[None]) -> None:
        with lock:
            with self.mutex:
                self.inside += 1
                self.most = max(self.most, self.inside)
            if self.barrier:
                self.barrier.wait(timeout=300)
            with self.mutex:
                self.inside -= 1


def test_admin_lock_admits_one_thread_at_a_time(repository: Repository) -> None:
    meeting = Meeting(None)

    def visit() -> None:
        for _ in range(20):
            meeting.visit(admin_lock(repository))

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meeting.most == 1


def test_without_the_admin_lock_the_same_threads_meet() -> None:
    meeting = Meeting(threading.Barrier(2))
    threads = [threading.Thread(target=meeting.visit, args=(nullcontext(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meeting.most == 2
