"""A second machine on this one, for sessions: a network and a home of its own, and no sight of the hub's files."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import NamedTuple, TypeVar

import psutil

from flows.prefect_server import LOOPBACK, find_free_port
from tasks_lib.process.marked_processes import find_marked
from tasks_lib.project.child_environment import REPOSITORY_MARKER

COMMAND_SECONDS = 300
"""A generous bound for one command; nothing waits for it when all goes well."""
READY = "is ready for sessions"
LOOK_SECONDS = 0.05
CLOSE_SECONDS = 30.0
BLOCK = 1 << 16
AnyMachine = TypeVar("AnyMachine", bound="SecondMachine")


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
        # Broken connections end their tasks; cancelled ones would be reported as failed by asyncio.
        self._is_cut = True
        self._abort()
        jobs = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*jobs, return_exceptions=True), CLOSE_SECONDS)


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
        number = holder.pid % (1 << 14)
        network, name = f"10.{192 + (number >> 8)}.{number & 255}", f"hub{holder.pid}"
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


@dataclass
class SecondMachine:
    """A machine called `name`: its files at `place`, its view of the hub, and the remotes in `remotes`, served by git.

    `api` leads to Prefect's server, `git_port` to the remotes.
    """

    name: str
    place: Path
    remotes: Path
    network: Network
    api: Forwarder
    git_port: int
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
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=COMMAND_SECONDS,
        )  # fmt: skip
        return done.returncode, done.stdout

    def start_worker(self) -> None:
        """Start the worker, and wait until it takes sessions."""
        began = read_log(self).count(READY)
        with find_log(self).open("ab") as output:
            self.worker = worker = subprocess.Popen(
                command(self, "start", "--name", self.name), cwd=self.place, env=environment(self),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + COMMAND_SECONDS
        while worker.poll() is None and read_log(self).count(READY) == began and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        assert worker.poll() is None and read_log(self).count(READY) > began, read_log(self)  # noqa: PT018

    def stop_worker(self) -> None:
        """Stop the worker as systemd does, and wait for its end."""
        assert self.worker
        self.worker.terminate()
        assert self.worker.wait(timeout=COMMAND_SECONDS) == 0, read_log(self)

    def kill_worker(self) -> None:
        assert self.worker
        self.worker.kill()
        self.worker.wait()

    def cut_off(self) -> None:
        """Take its network down; possible only if it has one of its own."""
        subprocess.run([*self.network.enter, "ip", "link", "set", "eth0", "down"], check=True)

    def connect_again(self) -> None:
        subprocess.run([*self.network.enter, "ip", "link", "set", "eth0", "up"], check=True)

    def close(self) -> None:
        if self.worker:
            self.kill_worker()
        for name in (path.stem for path in self.remotes.glob("*.git")):
            for process in find_processes(self, name):
                process.kill()


def environment(machine: SecondMachine, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    data = machine.place / "data"
    data.mkdir(exist_ok=True)
    own = {
        "PATH": os.environ["PATH"],
        "HOME": str(machine.home),
        "COORDINATOR_DATA_DIR": str(data),
        "PREFECT_API_URL": f"http://{machine.network.hub}:{machine.api.port}/api",
    }
    return own | dict(extra or {})


def command(machine: SecondMachine, *words: str) -> list[str]:
    return [*machine.network.enter, sys.executable, "-m", "flows.cli", "spoke", *words]


def find_log(machine: SecondMachine) -> Path:
    return machine.place / "worker.log"


def read_log(machine: SecondMachine) -> str:
    """What the worker has printed."""
    log = find_log(machine)
    return log.read_text(encoding="utf-8") if log.exists() else ""


def url(machine: SecondMachine, name: str) -> str:
    """The address of a remote, which this machine reaches as well."""
    return f"git://{machine.network.hub}:{machine.git_port}/{name}.git"


def find_copy(machine: SecondMachine, name: str) -> Path:
    """Where the machine has its copy of a remote."""
    return machine.place / "data" / "spokes" / f"{name}.git"


def find_processes(machine: SecondMachine, name: str) -> list[psutil.Process]:
    """What sessions of a repository run there."""
    return find_marked(REPOSITORY_MARKER, str(find_copy(machine, name).resolve()))


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
def open_machine(
    kind: type[AnyMachine], name: str, api_port: int, hidden: Path, remotes: Path
) -> Generator[AnyMachine]:
    """A second machine that does not see `hidden`, with a worker once `start_worker` was called."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory(prefix="coordinator-spoke-")))
        network = stack.enter_context(open_network(hidden))
        api = Forwarder(network.hub, api_port)
        stack.callback(api.close)
        git_port = stack.enter_context(serve_git(network.hub, remotes))
        machine = kind(name, place, remotes, network, api, git_port)
        stack.callback(machine.close)
        yield machine
