"""A run and the worker of its sessions in two processes, joined by a socket, so that the worker can be killed alone.

Lines of JSON go both ways: `[session, kind, text]`. The run's process stands for the Prefect server as well: it lives on
with its sessions when the worker's connection ends, and has an order ready for the worker that connects next.
"""

import asyncio
import json
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from chaos.spoke_kill_cases import list_remotes, say_to_log, work_with
from spokes.spoke_harness import RELEASE, DirectLink, HostedRun

from tasks_lib.cleanup.spoke_plan import clean_up_spoke
from tasks_lib.process.private_directories import name_owner, private_directory
from tasks_lib.session.remote_messages import (
    HubMessage,
    Progress,
    TurnReport,
    read_hub_message,
    read_order,
    read_progress,
    read_report,
    write_message,
)
from tasks_lib.spokes.link import Machine
from tasks_lib.spokes.machine import SpokeMachine

LINE_BYTES = 1 << 22
KILLED = "its worker was killed"


def find_socket(place: Path) -> Path:
    return place / "socket"


@contextmanager
def short_path(place: Path) -> Generator[Path]:
    """A short path of the directory `place` while the block runs: that of a socket may have about a hundred bytes."""
    descriptor = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class SocketLink(DirectLink):
    """The run's end: sessions are hosted by whoever is connected."""

    def __init__(self) -> None:
        super().__init__()
        self._worker: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._endings: dict[str, asyncio.Future[str]] = {}

    async def wait_for_worker(self) -> None:
        await self._connected.wait()

    async def list_machines(self) -> Sequence[Machine]:
        return [Machine("north", self._connected.is_set())]

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one worker until its connection ends, which ends the sessions that it had taken."""
        self._worker = writer
        self._connected.set()
        with suppress(OSError):
            while line := await reader.readline():
                await self._hear(*json.loads(line))
        self._connected.clear()
        for ending in self._endings.values():
            if not ending.done():
                ending.set_result(KILLED)
        writer.close()

    async def _hear(self, name: str, kind: str, text: str) -> None:
        run = self.runs[name]
        match kind:
            case "progress":
                await run.publish(progress=read_progress(text))
            case "report":
                await run.publish(report=read_report(text))
            case _:
                self._endings[name].set_result(text)

    async def _host(self, run: HostedRun) -> None:
        await self._connected.wait()
        name = next(name for name, one in self.runs.items() if one is run)
        ending = self._endings[name] = asyncio.get_running_loop().create_future()
        await self._tell(name, "order", write_message(run.order))
        passing_on = asyncio.create_task(self._pass_on(name, run))
        ended = await ending
        passing_on.cancel()
        await run.change(replace(run.news, ended=ended))

    async def _pass_on(self, name: str, run: HostedRun) -> None:
        while True:
            await self._tell(name, "message", write_message(await run.receive()))

    async def _tell(self, name: str, kind: str, text: str) -> None:
        assert self._worker
        with suppress(OSError):
            await write_line(self._worker, name, kind, text)


async def write_line(writer: asyncio.StreamWriter, name: str, kind: str, text: str) -> None:
    writer.write(json.dumps([name, kind, text]).encode() + b"\n")
    await writer.drain()


class SocketSession:
    """The session's end in the worker's process."""

    def __init__(self, name: str, writer: asyncio.StreamWriter) -> None:
        self.messages: asyncio.Queue[HubMessage] = asyncio.Queue()
        self._name = name
        self._writer = writer

    async def receive(self) -> HubMessage:
        return await self.messages.get()

    async def publish(self, *, progress: Progress | None = None, report: TurnReport | None = None) -> None:
        if progress:
            await self.tell("progress", write_message(progress))
        if report:
            await self.tell("report", write_message(report))

    async def tell(self, kind: str, text: str) -> None:
        with suppress(OSError):
            await write_line(self._writer, self._name, kind, text)


async def drive_run(repository: Path, data: Path) -> int:
    """Do the run once a worker has connected; return its exit code."""
    link = SocketLink()
    # Renamed once it listens: the worker connects as soon as it is there, and would be refused before.
    begun = repository.parent / "begun"
    with short_path(begun.parent) as place:
        server = await asyncio.start_unix_server(link.accept, place / begun.name, limit=LINE_BYTES)
    begun.rename(find_socket(begun.parent))
    await link.wait_for_worker()
    code = await work_with(link, repository, data)
    server.close()
    return code


async def drive_worker(repository: Path, data: Path) -> int:
    """Clean up after an earlier worker, and host sessions until the run has ended, which may have been before."""
    place = repository.parent
    own = place / "north"
    say_to_log(await clean_up_spoke(list_remotes(place), own))
    with private_directory(name_owner(own / "spokes")) as private:
        machine = SpokeMachine("north", RELEASE, lambda: list_remotes(place), own, private, print)
        with suppress(OSError):
            with short_path(place) as short:
                reader, writer = await asyncio.open_unix_connection(find_socket(short), limit=LINE_BYTES)
            await _host_sessions(machine, reader, writer)
        await machine.close()
    return 0


async def _host_sessions(machine: SpokeMachine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    sessions: dict[str, SocketSession] = {}
    jobs: list[asyncio.Task[None]] = []

    async def host(name: str, text: str) -> None:
        await machine.host(read_order(text), sessions[name], print)
        await sessions[name].tell("ended", "its flow run is Completed")

    while line := await reader.readline():
        name, kind, text = json.loads(line)
        if kind == "order":
            sessions[name] = SocketSession(name, writer)
            jobs.append(asyncio.create_task(host(name, text)))
        else:
            sessions[name].messages.put_nowait(read_hub_message(text))
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    writer.close()


def exit_in_child(code: int) -> None:
    """End a forked process with an exit code of another, whose signal becomes 128 and more."""
    os._exit(code if code >= 0 else 128 - code)
