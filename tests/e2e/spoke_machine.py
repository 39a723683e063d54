"""A second machine for the tests of spokes: a network of its own, a home of its own, and no sight of the hub's files."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, NamedTuple

import psutil
import yaml
from e2e.conftest import RUN_SECONDS, ask_until
from run_harness import Signal, write_task
from sample_repository import SampleRepository

from flows.prefect_server import LOOPBACK, find_free_port
from tasks_lib.git.remote_sessions.session_remote import SESSION_REFS
from tasks_lib.git.runner import Git
from tasks_lib.process.marked_processes import find_marked
from tasks_lib.process.private_directories import name_owner
from tasks_lib.project.child_environment import REPOSITORY_MARKER

READY = "is ready for sessions"
BLOCK = 1 << 16
AGENT = r"""set -eu
cat > /dev/null
id=$COORDINATOR_TASK_ID attempt=$COORDINATOR_ATTEMPT turn=$COORDINATOR_TURN
echo "$id $attempt $turn $COORDINATOR_SESSION $(readlink /proc/self/ns/net)" >> "$HOME/journal"
tell() { echo > "$HOME/$1"; }
await() { read -r _ < "$HOME/$1"; }
commit() { git add -A && git commit -q -m "$1"; }
work() { echo "$id" > "$id.txt"; commit "feat($id): write $id.txt"; echo "Wrote $id.txt."; }
script=$(sed -n '/^```sh$/,/^```$/{/^```/!p}' "$COORDINATOR_TASK_FILE")
eval "${script:-work}"
"""
"""The agent, which is in the repository, since nothing else is on both machines; a task's block of sh says what it does."""


class Forwarder:
    """Passes connections to a free port of `host` on to `port` of loopback, in a thread; `cut` refuses them."""

    def __init__(self, host: str, port: int) -> None:
        self.host: str = host
        self.port: int = 0
        self.refused: int = 0
        self._target = port
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._pass_on, host, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            self.refused += 1
            writer.transport.abort()
            return
        theirs, there = await asyncio.open_connection(LOOPBACK, self._target)
        self._writers |= {writer, there}
        await asyncio.gather(_pump(reader, there), _pump(theirs, writer))
        self._writers -= {writer, there}

    def cut(self) -> None:
        """Break all connections, and refuse new ones until `join`."""
        self._is_cut = True
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def join(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        jobs = asyncio.all_tasks() - {asyncio.current_task()}
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        self._abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(BLOCK):
            writer.write(data)
            await writer.drain()
    writer.close()


class Network(NamedTuple):
    """How the hub is reached from the second machine, and the words before a command that run it there."""

    hub: str
    enter: Sequence[str]


@cache
def find_obstacle() -> str:
    """Why there cannot be a network namespace here, "" if there can."""
    missing = [name for name in ("ip", "unshare", "nsenter", "mount") if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} is not installed"
    probe = ["unshare", "--net", "--mount", "ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


@contextmanager
def open_network(hidden: Path) -> Generator[Network]:
    """A network namespace joined by a veth pair, which does not see `hidden`; loopback where that is impossible."""
    if find_obstacle():
        yield Network(LOOPBACK, ())
        return
    keep = 'mount -t tmpfs tmpfs "$1" && echo ready && read -r _'
    command = ["unshare", "--net", "--mount", "sh", "-c", keep, "sh", str(hidden)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == "ready\n"
        enter = ["nsenter", "--target", str(holder.pid), "--net", "--mount"]
        number = os.getpid() % (1 << 14)
        network, name = f"10.{192 + (number >> 8)}.{number & 255}", f"hub{os.getpid()}"
        peer = ["type", "veth", "peer", "name", "eth0", "netns", str(holder.pid)]
        try:
            for words in (
                ["ip", "link", "add", name, *peer],
                ["ip", "address", "add", f"{network}.1/30", "dev", name],
                ["ip", "link", "set", name, "up"],
                [*enter, "ip", "address", "add", f"{network}.2/30", "dev", "eth0"],
                [*enter, "ip", "link", "set", "eth0", "up"],
                [*enter, "ip", "link", "set", "lo", "up"],
            ):
                subprocess.run(words, check=True)
            yield Network(f"{network}.1", enter)
        finally:
            subprocess.run(["ip", "link", "delete", name], check=False)
            holder.stdin.close()


class Turn(NamedTuple):
    """A turn that the agent began on the second machine."""

    attempt: int
    turn: int
    session: str
    network: str


@dataclass(slots=True)
class Hub(SampleRepository):
    """A run's own clone of a remote, on this machine."""

    def list_published(self, remote: Git) -> list[str]:
        """The refs on `remote` of sessions of this repository."""
        place = f"{SESSION_REFS}/{name_owner((self.top / '.git').resolve())}"
        return remote.text("for-each-ref", "--format=%(refname)", place).splitlines()


@dataclass
class SpokeSite:
    """The second machine: its files at `place`, its view of the hub, and the remotes in `remotes`, served by git."""

    place: Path
    remotes: Path
    network: Network
    api: Forwarder
    git_port: int
    signals: dict[str, Signal] = field(default_factory=dict[str, Signal])
    worker: "subprocess.Popen[bytes] | None" = None

    @cached_property
    def home(self) -> Path:
        home = self.place / "home"
        home.mkdir()
        (home / ".gitconfig").write_text("[user]\nname = North\nemail = north@example.org\n")
        return home

    def run(self, *words: str, extra: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Run `coordinator spoke` there; return the exit code, and what was printed."""
        done = subprocess.run(
            command(self, *words), cwd=self.place, env=environment(self, extra), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=RUN_SECONDS,
        )  # fmt: skip
        return done.returncode, done.stdout

    def start_worker(self) -> None:
        """Start the worker, and wait until it takes sessions."""
        began = read_log(self).count(READY)
        with self._log.open("ab") as output:
            self.worker = worker = subprocess.Popen(
                command(self, "start", "--name", "north"), cwd=self.place, env=environment(self),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        ask_until(lambda: worker.poll() is not None or read_log(self).count(READY) > began, bool)
        assert worker.poll() is None, read_log(self)

    def stop_worker(self) -> None:
        """Stop the worker as systemd does, and wait for its end."""
        assert self.worker
        self.worker.terminate()
        assert self.worker.wait(timeout=RUN_SECONDS) == 0, read_log(self)

    def kill_worker(self) -> None:
        assert self.worker
        self.worker.kill()
        self.worker.wait()

    @property
    def _log(self) -> Path:
        return self.place / "worker.log"

    def signal(self, name: str) -> None:
        """Make a signal between the test and an agent, by which one of them waits for the other."""
        self.signals[name] = Signal(self.home / name)

    def wait(self, name: str) -> None:
        async def hear() -> None:
            async with asyncio.timeout(RUN_SECONDS):
                await self.signals[name].wait()

        asyncio.run(hear())

    def close(self) -> None:
        if self.worker:
            self.worker.kill()
            self.worker.wait()
        for name in (path.stem for path in self.remotes.glob("*.git")):
            for process in find_processes(self, name):
                process.kill()
        for one in self.signals.values():
            one.close()


def environment(site: SpokeSite, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    data = site.place / "data"
    data.mkdir(exist_ok=True)
    own = {
        "PATH": os.environ["PATH"],
        "HOME": str(site.home),
        "COORDINATOR_DATA_DIR": str(data),
        "PREFECT_API_URL": f"http://{site.network.hub}:{site.api.port}/api",
    }
    return own | dict(extra or {})


def command(site: SpokeSite, *words: str) -> list[str]:
    return [*site.network.enter, sys.executable, "-m", "flows.cli", "spoke", *words]


def read_log(site: SpokeSite) -> str:
    log = site.place / "worker.log"
    return log.read_text(encoding="utf-8") if log.exists() else ""


def url(site: SpokeSite, name: str) -> str:
    return f"git://{site.network.hub}:{site.git_port}/{name}.git"


def remote(site: SpokeSite, name: str = "work") -> Git:
    return Git(site.remotes / f"{name}.git")


def add_repository(site: SpokeSite, name: str, settings: Mapping[str, Any]) -> None:
    """Make a remote with a configuration and the agent, and register it there."""
    seed, bare = site.remotes / name, site.remotes / f"{name}.git"
    for place, words in ((seed, ()), (bare, ("--bare",))):
        place.mkdir()
        Git(place).run("init", "--quiet", *words, "--initial-branch=main")
    said = {
        "agent": {"command": ["sh", "agent.sh"]},
        "verify": ["test ! -e wrong.txt"],
        "spokes": {"remote": "origin", "prefer": "only"},
        "retry": {"attempts": 2, "delay_seconds": 0, "max_delay_seconds": 0},
        "watch": {"stop_seconds": 2},
        **settings,
    }
    (seed / "coordinator.yaml").write_text(yaml.safe_dump(said))
    (seed / "agent.sh").write_text(AGENT)
    set_author(Git(seed))
    Git(seed).run("add", "--all")
    Git(seed).run("commit", "--quiet", "--message", "Begin")
    Git(seed).run("push", "--quiet", str(bare), "main")
    code, output = site.run("add", url(site, name))
    assert code == 0, output


def clone(site: SpokeSite, place: Path, tasks: Mapping[str, Mapping[str, Any]], name: str = "work") -> Hub:
    """A clone for runs on this machine, with `tasks`; the value `sh` of a task is what its agent does."""
    Git(place).run("clone", "--quiet", url(site, name), "repository")
    hub = Hub(place)
    set_author(hub.git)
    files: dict[str, str] = {}
    for task_id, given in tasks.items():
        front = dict(given)
        script = front.pop("sh", "")
        body = front.pop("body", f"Write it.\n\n```sh\n{script}\n```" if script else "Write it.")
        files[f"tasks/{task_id}.md"] = write_task(task_id, body, **front)
    hub.commit("Plan", files)
    return hub


def read_turns(site: SpokeSite, task_id: str) -> list[Turn]:
    """The turns that the agent of a task began, oldest first."""
    journal = site.home / "journal"
    rows = [line.split() for line in journal.read_text().splitlines()] if journal.exists() else []
    return [Turn(int(row[1]), int(row[2]), row[3], row[4]) for row in rows if row[0] == task_id]


def copy(site: SpokeSite, name: str = "work") -> Path:
    return site.place / "data" / "spokes" / f"{name}.git"


def find_processes(site: SpokeSite, name: str = "work") -> list[psutil.Process]:
    return find_marked(REPOSITORY_MARKER, str(copy(site, name).resolve()))


def list_left(site: SpokeSite, name: str = "work") -> list[str]:
    """What sessions left in a repository there: worktrees and branches."""
    git = Git(copy(site, name))
    worktrees = git.text("worktree", "list", "--porcelain").strip().split("\n\n")[1:]
    branches = git.text("for-each-ref", "--format=%(refname)", "refs/heads").splitlines()
    return [*worktrees, *branches]


def set_author(git: Git) -> None:
    git.run("config", "user.name", "Ada")
    git.run("config", "user.email", "ada@example.org")


@contextmanager
def serve_git(host: str, place: Path) -> Generator[int]:
    """Serve the repositories in `place`, for pushing as well; yield the port."""
    port = find_free_port()
    command = [
        "git", "daemon", f"--listen={host}", f"--port={port}", "--reuseaddr", f"--base-path={place}",
        "--export-all", "--enable=receive-pack", "--verbose", str(place),
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as daemon:
        assert daemon.stderr
        for line in daemon.stderr:
            if "Ready to rumble" in line:
                break
        draining = Thread(target=daemon.stderr.read, daemon=True)
        draining.start()
        yield port
        for process in [*psutil.Process(daemon.pid).children(recursive=True), daemon]:
            with suppress(psutil.Error):
                process.kill()


@contextmanager
def open_site(api_port: int, hidden: Path, remotes: Path) -> Generator[SpokeSite]:
    """A second machine that does not see `hidden`, with a worker once `start_worker` was called."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory(prefix="coordinator-spoke-")))
        network = stack.enter_context(open_network(hidden))
        api = Forwarder(network.hub, api_port)
        stack.callback(api.close)
        git_port = stack.enter_context(serve_git(network.hub, remotes))
        site = SpokeSite(place, remotes, network, api, git_port)
        stack.callback(site.close)
        yield site
