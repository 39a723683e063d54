"""Shared by the benchmarks: makes repositories with graphs and agents that only commit, and runs a coordinator."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from platform import machine, python_version

from tasks_lib.runtime.status_board import RunView, read_view

ROOT = Path(__file__).resolve().parent.parent
TARGET_BRANCH = "main"
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4_000_000_000
"""The free bytes from which benchmarks work in memory; the largest needs about 2 GB."""
FILES_A_DIRECTORY = 100
STOP_SECONDS = 60
SHARED_MACHINE = "Times hang on the machine and on what else it does; read the ratios and not the seconds."

Edges = Mapping[str, Sequence[str]]
"""Maps every node id to the ids it depends on, prerequisites first."""


class BrokenRunError(Exception):
    """A run did not end as it should, so there is nothing to measure; the message contains the end of its output."""


@dataclass(frozen=True, slots=True)
class Field:
    """The directory of one measurement: a repository, its agent, and files by which the agent marks start and end."""

    home: Path
    repository: Path
    agent: Path

    def began(self, node: str) -> float:
        """When the agent of `node` started, in seconds since the epoch."""
        return (self.home / "began" / node).stat().st_mtime

    def ended(self, node: str) -> float:
        """When the agent of `node` had committed, in seconds since the epoch."""
        return (self.home / "ended" / node).stat().st_mtime

    def count_began(self) -> int:
        return len(os.listdir(self.home / "began"))  # noqa: PTH208 - Called often, and Path objects cost more.


def work_in_memory() -> str:
    """Let temporary directories, of child processes too, be made in memory if possible; return a line that says so.

    On a disk its own pauses, for journals and freed blocks, are most of what varies. `TMPDIR` overrides this.
    """
    if "TMPDIR" not in os.environ and _is_suitable(MEMORY):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # It is read again on the next use.
    return f"Repositories and data are below {tempfile.gettempdir()}. {describe_machine('start')}"


def _is_suitable(place: Path) -> bool:
    if not os.access(place, os.W_OK):
        return False
    found = os.statvfs(place)
    return not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize >= MEMORY_BYTES


@contextmanager
def lay_out(edges: Edges, files: int, *, pause: str = "") -> Generator[Field]:
    """Make a repository of `files` files and one task file per node, in a temporary directory deleted after the block.

    `pause` is shell code that agents run before they commit, with their id in `$id` and this directory in `$home`.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        field = Field(Path(name), Path(name) / "repository", Path(name) / "agent")
        for marks in ("began", "ended"):
            (field.home / marks).mkdir()
        write_agent(field, pause)
        write_repository(field, edges, files)
        yield field


def write_agent(field: Field, pause: str) -> None:
    """Write the agent script. Its marks are empty files, since their mtimes need no extra process."""
    field.agent.write_text(
        f'#!/bin/sh\nset -e\nid=$COORDINATOR_TASK_ID home="{field.home}"\n'
        ': > "$home/began/$id"\n'
        f"{pause}\n"
        'echo "$id" > "work-$id.txt"\n'
        'git add -- "work-$id.txt"\n'
        'git commit -q -m "Work $id"\n'
        ': > "$home/ended/$id"\n'
    )
    field.agent.chmod(0o755)


def write_repository(field: Field, edges: Edges, files: int) -> None:
    """Make one commit on the target branch, with an identity in the repository's own configuration."""
    top = field.repository
    (top / "tasks").mkdir(parents=True)
    for number in range(files):
        path = top / name_file(number)
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"This is file {number}.\n" * 10)
    for node, above in edges.items():
        listed = "".join(f"\n  - {one}" for one in above) or " []"
        text = (
            f"---\nid: {node}\nname: Work {node}\nstatus: pending\ndepends_on:{listed}\n---\n\n## Description\nWork.\n"
        )
        (top / "tasks" / f"{node}.md").write_text(text)
    (top / "coordinator.yaml").write_text(
        f'agent:\n  backend: command\n  command: ["{field.agent}"]\nreview:\n  when: never\n'
    )
    git(top, "init", "-q", "-b", TARGET_BRANCH)
    set_identity(top)
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "Begin")


def import_branches(field: Field, branches: Mapping[str, str], files: int, changes: int) -> Mapping[str, str]:
    """Make each of `branches` (keyed by node) with one commit on the target; return the commits by node.

    Each adds a file and changes `changes - 1` of the repository's `files`, in different directories; no two branches
    change the same file. Raises ValueError if there are too few files.
    """
    if len(branches) * (changes - 1) > files:
        raise ValueError(f"{files} files are too few for {len(branches)} branches of {changes - 1} each")
    start = git(field.repository, "rev-parse", TARGET_BRANCH)
    stream: list[str] = []
    for number, (node, branch) in enumerate(branches.items()):
        stream += [f"commit refs/heads/{branch}", "committer Bench <bench@localhost> 1700000000 +0000"]
        stream += [
            *_write_data(f"Work {node}"),
            f"from {start}",
            f"M 100644 inline work-{node}.txt",
            *_write_data(node),
        ]
        for change in range(changes - 1):
            path = name_file(number + change * (files // (changes - 1)))
            stream += [f"M 100644 inline {path}", *_write_data(f"{node} was here.\n" * 10)]
    git(field.repository, "fast-import", "--quiet", "--force", stdin="\n".join([*stream, ""]))
    return {node: git(field.repository, "rev-parse", f"refs/heads/{branch}") for node, branch in branches.items()}


@contextmanager
def copy_repository(field: Field, name: str) -> Generator[Path]:
    """Make a bare copy of the field's repository, with its identity; it is deleted after the block."""
    top = field.home / f"{name}.git"
    git(field.home, "clone", "--quiet", "--mirror", str(field.repository), str(top))
    set_identity(top)
    try:
        yield top
    finally:
        shutil.rmtree(top)


def set_identity(top: Path) -> None:
    git(top, "config", "user.name", "Bench")
    git(top, "config", "user.email", "bench@localhost")
    git(top, "config", "gc.auto", "0")


def _write_data(text: str) -> tuple[str, str]:
    return f"data {len(text.encode())}", text


def name_file(number: int) -> str:
    """The path of file `number` in the repositories of this module."""
    return f"src-{number // FILES_A_DIRECTORY:03}/file-{number:05}.txt"


def git(directory: Path, *arguments: str, stdin: str | None = None) -> str:
    """Return a git command's standard output, stripped; raises CalledProcessError if it fails."""
    done = subprocess.run(["git", *arguments], cwd=directory, input=stdin, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def coordinate(
    field: Field,
    sessions: int,
    watch: Callable[[], None] | None = None,
    on_start: Callable[[int], None] | None = None,
) -> RunView:
    """Run the field's graph with `coordinator run` and its own server; return the run's view from `run.json`.

    `watch` is called about twenty times a second during the run, `on_start` once with the coordinator's pid. Raises
    BrokenRunError unless every node completed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "GIT_"))}
    environment |= {"COORDINATOR_DATA_DIR": str(field.home / "data"), "PYTHONDONTWRITEBYTECODE": "1"}
    log = field.home / "coordinator.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run", str(field.repository), "--max-sessions", str(sessions)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
        if on_start:
            on_start(process.pid)
        try:
            while process.poll() is None:
                if watch:
                    watch()
                time.sleep(0.05)
        finally:
            stop(process)
    view = read_view(field.repository / ".git" / "coordinator" / "run.json")
    if process.returncode != 0 or view is None:
        tail = log.read_text(errors="replace")[-2000:]
        raise BrokenRunError(f"`coordinator run` exited with {process.returncode}; its output ends:\n{tail}")
    return view


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a coordinator that is still running, with SIGTERM first so that it ends its agents and server itself."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_on_term() -> None:
    """Let TERM end this process as an error does, so that what it has started ends too; by default nothing would."""

    def leave(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def measure_pace() -> float:
    """Return how many milliseconds of processor time a fixed computation takes now, the least of three.

    It is about half objects and strings, as in our own work, and half hashing, as in git's. The speed of a virtual
    machine changes by a third within hours: by this, absolute figures of two runs can be compared.
    """
    return min(_compute() for _ in range(3))


def _compute() -> float:
    began = time.process_time()
    rows = [{"id": f"node-{number}", "needs": [f"node-{number // 2}"]} for number in range(20_000)]
    text = json.dumps(sorted(rows, key=lambda row: str(row["id"])[::-1]))
    digest = text.encode()
    for _ in range(30):
        digest = hashlib.sha1(digest + text.encode(), usedforsecurity=False).digest()
    return 1000 * (time.process_time() - began)


def describe_machine(when: str = "end") -> str:
    """Describe the machine of the measurements in a sentence, to qualify absolute times, with its load `when`."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), machine())
    load = f"{os.getloadavg()[0]:.1f}"
    return f"Machine: {os.cpu_count()} cores of {model}, Python {python_version()}, load {load} at the {when}."
