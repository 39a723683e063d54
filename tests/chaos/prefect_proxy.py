"""A proxy between a coordinator and Prefect's server that sees each call that changes something, and can kill there.

Requests are forwarded one by one, so that the coordinator can be killed before the server receives a call, or after
the server has acted and before the coordinator gets the response. Events use a WebSocket, whose messages count as calls.
"""

import asyncio
import json
import os
import re
import signal
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

from chaos.tracer import Target

LOOPBACK = "127.0.0.1"
_READS = re.compile(r"/(filter|count|paginate|history|count-by.*|read)$")
_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=/)\d+(?=/|$)|letter[^/]*|(?<=/name/)[^/]+")
_TEXT = 1
_MASKED = 0x80


@dataclass(slots=True)
class Proxy:
    """The calls in order, and where to kill; `victim` is the pid to kill, 0 while there is none.

    `refuse` may answer a request, given its method and path, with a status in the server's place, or 0 to hang up.
    """

    server_port: int
    target: Target | None = None
    refuse: Callable[[str, str], int | None] = field(default=lambda method, path: None)
    victim: int = 0
    url: str = ""
    calls: list[str] = field(default_factory=list[str])
    has_struck: bool = False
    seen: Counter[str] = field(default_factory=Counter[str])
    tasks: set["asyncio.Task[None]"] = field(default_factory=set["asyncio.Task[None]"])

    def note(self, signature: str) -> Target | None:
        """Record a call; return the target if this is where to kill."""
        self.calls.append(signature)
        self.seen[signature] += 1
        target = self.target
        is_chosen = target and target.signature == signature and target.occurrence == self.seen[signature]
        return target if is_chosen and not self.has_struck else None

    def strike(self) -> None:
        self.has_struck = True
        os.kill(self.victim, signal.SIGKILL)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side closes it."""
        there: asyncio.StreamWriter | None = None
        try:
            back, there = await asyncio.open_connection(LOOPBACK, self.server_port)
            while not self.has_struck:
                if not await self._pass_one_on(reader, writer, back, there):
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # Cancelled at the end of the run; asyncio would print the cancellation of a connection.
        finally:
            for one in (writer, there):
                if one is not None:
                    one.transport.abort()

    async def _pass_one_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamReader,
        there: asyncio.StreamWriter,
    ) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        # Without compression, the messages can be read.
        head = re.sub(rb"(?i)(sec-websocket-extensions|accept-encoding):[^\r]*\r\n", b"", head)
        method, _, path = head.partition(b"\r\n")[0].decode().rpartition(" ")[0].partition(" ")
        body = await _read_body(reader, head)
        path = path.partition("?")[0]
        status = self.refuse(method, path)
        if status is not None:
            writer.write(f"HTTP/1.1 {status} No\r\ncontent-length: 2\r\n\r\n{{}}".encode() if status else b"")
            return bool(status)
        is_change = method in ("POST", "PUT", "PATCH", "DELETE") and not _READS.search(path)
        target = self.note(f"call {method} {_IDS.sub('<id>', path)}") if is_change else None
        if target and target.mode == "before":
            self.strike()
            return False
        there.write(head + body)
        answer = await back.readuntil(b"\r\n\r\n")
        is_stream = answer.startswith(b"HTTP/1.1 101")
        answer += b"" if is_stream else await _read_body(back, answer)
        if target:
            self.strike()
            return False
        writer.write(answer)
        if is_stream:
            await asyncio.gather(_pump(back, writer), self._pass_messages_on(reader, there, path))
        return not is_stream

    async def _pass_messages_on(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter, path: str) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame, kind, payload = await _read_frame(reader)
                target = self.note(f"event {_name_event(payload, path)}") if kind == _TEXT else None
                if target and target.mode == "before":
                    self.strike()
                    break
                there.write(frame)
                await there.drain()
                if target:
                    self.strike()
                    break
        there.transport.abort()


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if found := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
        return await reader.readexactly(int(found[1]))
    if not re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
        return b""
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line, 16)
        body += line + await reader.readexactly(size + 2)
        if size == 0:
            return body


async def _read_frame(reader: asyncio.StreamReader) -> tuple[bytes, int, bytes]:
    """Read a WebSocket frame; return its raw bytes, its opcode, and its unmasked payload."""
    frame = await reader.readexactly(2)
    kind, length = frame[0] & 0x0F, frame[1] & 0x7F
    if extra := {126: 2, 127: 8}.get(length, 0):
        more = await reader.readexactly(extra)
        frame, length = frame + more, struct.unpack(">H" if extra == 2 else ">Q", more)[0]
    mask = await reader.readexactly(4) if frame[1] & _MASKED else b"\0\0\0\0"
    data = await reader.readexactly(length)
    plain = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
    return frame + (mask if frame[1] & _MASKED else b"") + data, kind, plain


def _name_event(payload: bytes, path: str) -> str:
    try:
        said = json.loads(payload)
    except ValueError:
        return path
    words = cast("dict[str, object]", said) if isinstance(said, dict) else {}
    return str(words.get("event") or words.get("type") or path)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def open_proxy(server_port: int, target: Target | None = None) -> AsyncGenerator[Proxy]:
    """Run a proxy before the server at `server_port` for as long as the block runs."""
    proxy = Proxy(server_port, target)
    listener = await asyncio.start_server(proxy.handle, LOOPBACK, 0, limit=1 << 22)
    proxy.url = f"http://{LOOPBACK}:{listener.sockets[0].getsockname()[1]}/api"
    try:
        yield proxy
    finally:
        listener.close()
