"""A hub and machines for sessions, for `bench/remote.py`: one Prefect server, git remotes, and runs of both kinds."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from bench.common import ROOT, TARGET_BRANCH, BrokenRunError, Edges, git, set_identity, stop
from bench.second_machine import SecondMachine, open_machine, url
from flows.prefect_api import ask
from flows.prefect_server import LOOPBACK, end_child, find_free_port, start_child
from flows.spokes.session_labels import SESSION_FLOW
from tasks_lib.runtime.status_board import RunView, read_view

FILES = 100
RUN_SECONDS = 1800.0
"""A generous bound for one run; nothing waits for it when all goes well."""
LOOK_SECONDS = 0.02
AGENT = r"""set -eu
id=$COORDINATOR_TASK_ID place="$HOME/@NAME@"
mkdir -p "$place"
: > "$place/$id.began"
cat > /dev/null
echo "$id $COORDINATOR_ATTEMPT $COORDINATOR_TURN $COORDINATOR_SESSION" >> "$place/journal"
@PAUSE@
echo "$id" > "work-$id.txt"
git add -- "work-$id.txt"
git commit -q -m "Work $id"
: > "$place/$id.ended"
"""
"""The agent, which is in the repository, since nothing else is on all machines."""


@dataclass(frozen=True, slots=True)
class Site:
    """The hub, whose files are at `home`, and the other machines; `api` is the hub's Prefect server."""

    home: Path
    remotes: Path
    api: str
    machines: Sequence[SecondMachine]
    runs: "list[subprocess.Popen[bytes]]" = field(default_factory=list["subprocess.Popen[bytes]"])

    @property
    def homes(self) -> list[Path]:
        """The home directories of all machines, the hub's first."""
        return [self.home / "home", *(machine.home for machine in self.machines)]


@dataclass(frozen=True, slots=True)
class Plan:
    """A repository called `name` for one graph. `pause` is shell code that its agents run before they commit.

    `settings` go into its configuration, `front` into the front matter of its tasks, and `text` is what they say.
    """

    name: str
    edges: Edges
    pause: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    front: Mapping[str, str] = field(default_factory=dict[str, str])
    text: str = "Work."

    def elsewhere(self, sessions_each: int, machine: str = "spokes") -> "Plan":
        """The same with all sessions on other machines, or on one of them."""
        named = {"spokes": {"remote": "origin", "prefer": "only", "sessions_each": sessions_each}}
        where, settings = {"runs_on": machine}, {**self.settings, **named}
        return replace(self, name=f"{self.name}-elsewhere", settings=settings, front={**self.front, **where})


@contextmanager
def open_site(names: Sequence[str]) -> Generator[Site]:
    """Start a server, and a machine with a worker for each of `names`."""
    with ExitStack() as stack:
        top = Path(stack.enter_context(TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        home, remotes = top / "hub", top / "remotes"
        for place in (home, home / "home", home / "prefect", remotes):
            place.mkdir()
        child = start_child(home / "prefect", find_free_port())
        stack.callback(end_child, child)
        machines = [stack.enter_context(open_machine(SecondMachine, name, child.port, home, remotes)) for name in names]
        site = Site(home, remotes, f"http://{LOOPBACK}:{child.port}/api", machines)
        stack.callback(stop_runs, site)
        yield site


def add_repository(site: Site, plan: Plan) -> Path:
    """Make a remote, register it on all machines, whose workers then run, and clone it for runs on the hub."""
    seed, bare = site.remotes / plan.name, site.remotes / f"{plan.name}.git"
    write_repository(seed, plan)
    git(site.remotes, "clone", "--quiet", "--bare", str(seed), str(bare))
    for machine in site.machines:
        code, output = machine.run("add", url(machine, plan.name))
        if code:
            raise BrokenRunError(f"`coordinator spoke add` exited with {code}: {output}")
        if machine.worker is None:
            machine.start_worker()
    top = site.home / plan.name
    address = url(site.machines[0], plan.name) if site.machines else str(bare)
    git(site.home, "clone", "--quiet", address, str(top))
    set_identity(top)
    return top


def write_repository(top: Path, plan: Plan) -> None:
    """Make one commit of files, tasks, the configuration and the agent."""
    (top / "tasks").mkdir(parents=True)
    for number in range(FILES):
        (top / f"file-{number:03}.txt").write_text(f"This is file {number}.\n" * 10)
    for node, above in plan.edges.items():
        front = {"id": node, "name": f"Work {node}", "status": "pending", "depends_on": list(above), **plan.front}
        text = f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n## Description\n{plan.text}\n"
        (top / "tasks" / f"{node}.md").write_text(text)
    said = {"agent": {"command": ["sh", "agent.sh"]}, "review": {"when": "never"}, **plan.settings}
    (top / "coordinator.yaml").write_text(yaml.safe_dump(said))
    (top / "agent.sh").write_text(AGENT.replace("@NAME@", plan.name).replace("@PAUSE@", plan.pause))
    git(top, "init", "-q", "-b", TARGET_BRANCH)
    set_identity(top)
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "Begin")


class Gate:
    """A named pipe at `path` that agents read from until it is opened, so that waiting costs nothing."""

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def open(self) -> None:
        """Let one agent pass, now or when it comes."""
        os.write(self._descriptor, b"\n")

    def __enter__(self) -> "Gate":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


# Runs.


def environment(site: Site) -> dict[str, str]:
    """The environment of commands on the hub."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(site.home / "home"),
        "COORDINATOR_DATA_DIR": str(site.home / "data"),
        "PREFECT_API_URL": site.api,
        "PREFECT_HOME": str(site.home / "prefect-client"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *words]


def start_run(site: Site, top: Path, sessions: int) -> "subprocess.Popen[bytes]":
    """Start `coordinator run`; its output goes to a log beside the repository."""
    with top.with_suffix(".log").open("ab") as sink:
        process = subprocess.Popen(
            command("run", str(top), "--max-sessions", str(sessions)), cwd=ROOT, env=environment(site),
            stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    site.runs.append(process)
    return process


def stop_runs(site: Site) -> None:
    """End the runs that are in progress, all at the same time."""
    for run in site.runs:
        if run.poll() is None:
            run.terminate()
    for run in site.runs:
        stop(run)


def finish_run(top: Path, process: "subprocess.Popen[bytes]", expected: int = 0) -> RunView:
    """Wait for the end of a run, and return its view. Raises BrokenRunError if it does not exit with `expected`."""
    code = process.wait(RUN_SECONDS)
    view = find_view(top)
    if code != expected or view is None:
        tail = top.with_suffix(".log").read_text(errors="replace")[-3000:]
        raise BrokenRunError(f"`coordinator run` exited with {code}; its output ends:\n{tail}")
    return view


def find_view(top: Path) -> RunView | None:
    return read_view(top / ".git" / "coordinator" / "run.json")


def wait_until(look: Callable[[], bool], what: str, process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Wait until `look()`. Raises BrokenRunError, which names `what`, if `process` ends first or it takes too long."""
    deadline = time.monotonic() + RUN_SECONDS
    while not look():
        if time.monotonic() > deadline or (process and process.poll() is not None):
            raise BrokenRunError(f"{what}: that did not happen")
        time.sleep(LOOK_SECONDS)


def read_marks(site: Site, name: str, what: str = "began") -> dict[str, float]:
    """When each agent of a repository left the mark `what`, by node, in seconds since the epoch."""
    places = [home / name for home in site.homes]
    marks = [mark for place in places for mark in place.glob(f"*.{what}")]
    return {mark.stem: mark.stat().st_mtime for mark in marks}


def read_journal(site: Site, name: str) -> list[tuple[str, int, int, str]]:
    """The turns that agents of a repository began: node, attempt, turn and session, on all machines."""
    journals = [home / name / "journal" for home in site.homes]
    rows = [line.split() for one in journals if one.exists() for line in one.read_text().splitlines()]
    return [(row[0], int(row[1]), int(row[2]), row[3]) for row in rows]


def read_dispatches(site: Site, run: str, nodes: Collection[str]) -> dict[str, float]:
    """When Prefect started the task run of each of `nodes`, in seconds since the epoch; it records with a delay."""
    found: dict[str, float] = {}

    def look() -> bool:
        body = {"flow_runs": {"id": {"any_": [run]}}}
        rows = client.post("task_runs/filter", json=body).raise_for_status().json()
        starts = {str(row["name"]): str(row["start_time"]) for row in rows if row["start_time"]}
        found.update((name, datetime.fromisoformat(start).timestamp()) for name, start in starts.items())
        return set(nodes) <= set(found)

    with ask(site.api, 60.0) as client:
        wait_until(look, "Prefect records when nodes started")
    return found


def count_sessions(site: Site, prefix: str) -> int:
    """How many sessions were started elsewhere for nodes whose ids begin with `prefix`."""
    body = {"flows": {"name": {"any_": [SESSION_FLOW]}}, "flow_runs": {"name": {"like_": prefix}}}
    with ask(site.api, 60.0) as client:
        return int(client.post("flow_runs/count", json=body).raise_for_status().json())
