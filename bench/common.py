"""Makes what the benchmarks run on: repositories with graphs, agents that only commit, a coordinator to work them."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.life.board import RunView, read_view

ROOT = Path(__file__).resolve().parent.parent
TARGET_BRANCH = "main"
FILES_A_DIRECTORY = 100
STOP_SECONDS = 60
SHARED_MACHINE = "Times hang on the machine and on what else it does; read the ratios and not the seconds."

Edges = Mapping[str, Sequence[str]]
"""The ids that each node depends on, each id a key, prerequisites first."""


class BrokenRunError(Exception):
    """A run did not end as it should, so there is nothing to measure; the message holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Field:
    """A place for one measurement: a repository, its agent, and where the agent marks that it began and ended."""

    home: Path
    repository: Path
    agent: Path

    def began(self, node: str) -> float:
        """When the agent of `node` was started, in seconds since the epoch."""
        return (self.home / "began" / node).stat().st_mtime

    def ended(self, node: str) -> float:
        """When the agent of `node` had committed, in seconds since the epoch."""
        return (self.home / "ended" / node).stat().st_mtime

    def count_began(self) -> int:
        return len(os.listdir(self.home / "began"))  # noqa: PTH208 - It is asked often, and Path objects cost more.


@contextmanager
def lay_out(edges: Edges, files: int, *, pause: str = "") -> Generator[Field]:
    """A repository of `files` files and one task file a node, in a temporary directory that goes with the block.

    `pause` is shell that the agents run before they commit, with their id in `$id` and this directory in `$home`.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        field = Field(Path(name), Path(name) / "repository", Path(name) / "agent")
        for marks in ("began", "ended"):
            (field.home / marks).mkdir()
        write_agent(field, pause)
        write_repository(field, edges, files)
        yield field


def write_agent(field: Field, pause: str) -> None:
    """The marks are empty files, whose times need no process of their own."""
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
    """One commit on the target branch, with an identity in the repository's own configuration."""
    top = field.repository
    (top / "tasks").mkdir(parents=True)
    for number in range(files):
        path = top / f"src-{number // FILES_A_DIRECTORY:03}" / f"file-{number:05}.txt"
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
    git(top, "config", "user.name", "Bench")
    git(top, "config", "user.email", "bench@localhost")
    git(top, "config", "gc.auto", "0")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "Begin")


def git(directory: Path, *arguments: str) -> str:
    """Standard output of a git command, stripped; raises CalledProcessError when it fails."""
    done = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def coordinate(field: Field, sessions: int, watch: Callable[[], None] | None = None) -> RunView:
    """Work the field's graph by `coordinator run` with a server of its own; returns what it wrote of itself.

    `watch` is called about twenty times a second meanwhile. Raises BrokenRunError unless every node completed.
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
    """End a coordinator that still runs, the gentle way first: it ends its agents and its server itself."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def judge(value: float, target: float) -> str:
    """`met` or `missed`, with the target that `value` should not pass."""
    return f"target at most {target:g}: {'met' if value <= target else 'missed'}"
