"""Standard streams that outlive their readers: output that cannot be written is dropped, and does not stop a command.

That covers a closed terminal, a reader that exited, a full disk, and streams that were closed before the start. The
command line sets up its streams before anything else (`make_streams_resilient`).
"""

import errno
import io
import os
import queue
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

STDOUT, STDERR = 1, 2
READER_LEFT = (errno.EPIPE, errno.ECONNRESET, errno.EIO)
"""A pipe's reader exited, or a terminal was closed, so nobody misses the output."""
BUSY_SECONDS = 10.0
"""How long a slow reader may hold up a command if its stream is non-blocking."""
MOST_WAITING_BYTES = 1 << 20
"""How much output is buffered for a reader that stopped reading (a pager, Ctrl-S) before it is dropped."""
CLOSE_SECONDS = 2.0


class ResilientStream(io.RawIOBase):
    """Writes to a file descriptor, and discards everything after the first failure, which is kept in `lost`."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waiting: queue.SimpleQueue[bytes | None] | None = None
        self._waiting_bytes = 0
        self._writer: threading.Thread | None = None
        self.lost: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: "Buffer", /) -> int:
        """Write or drop `data`; never raises, and always reports it as written."""
        block = bytes(data)
        if self._waiting is None:
            self._write(block)
        elif self._waiting_bytes < MOST_WAITING_BYTES:
            self._waiting_bytes += len(block)
            self._waiting.put(block)
        return len(block)

    def detach(self) -> None:
        """Write in a thread from now on, so that a reader that stopped reading cannot block the run."""
        if self._waiting is None:
            self._waiting = queue.SimpleQueue()
            self._writer = threading.Thread(target=self._empty, name="output", daemon=True)
            self._writer.start()

    def settle(self, seconds: float) -> None:
        """Wait at most `seconds` until everything is written."""
        if self._waiting and self._writer:
            self._waiting.put(None)
            self._writer.join(seconds)
            self._waiting = None if not self._writer.is_alive() else self._waiting

    def is_gone(self) -> bool:
        """Whether the reader is gone; a pipe shows that even before the next write."""
        if self.lost:
            return True
        poll = select.poll()
        poll.register(self._descriptor, 0)
        return any(event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, event in poll.poll(0))

    def _empty(self) -> None:
        while self._waiting and (block := self._waiting.get()) is not None:
            self._write(block)
            self._waiting_bytes -= len(block)

    def _write(self, block: bytes) -> None:
        deadline = time.monotonic() + BUSY_SECONDS
        while block and self.lost is None:
            try:
                block = block[os.write(self._descriptor, block) :]
            except BlockingIOError as error:
                select.select([], [self._descriptor], [], max(0.0, deadline - time.monotonic()))
                self.lost = error if time.monotonic() > deadline else None
            except (OSError, ValueError) as error:
                self.lost = error if isinstance(error, OSError) else OSError(str(error))


_outlets: dict[int, ResilientStream] = {}


def make_streams_resilient() -> None:
    """Replace the standard streams of this process; closed ones are opened on the null device.

    Call this before any file is opened, which would get the descriptor of a closed stream.
    """
    for descriptor in (0, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = _wrap(STDOUT, sys.stdout)
    sys.stderr = _wrap(STDERR, sys.stderr)


def _wrap(descriptor: int, before: "TextIO | None") -> TextIO:
    outlet = _outlets[descriptor] = ResilientStream(descriptor)
    is_unbuffered = isinstance(before, io.TextIOWrapper) and before.write_through
    return io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding=before.encoding if before else None,
        # Names that are not text, or characters outside the terminal's encoding, must not raise either.
        errors="backslashreplace",
        line_buffering=is_unbuffered or descriptor == STDERR or outlet.isatty(),
        write_through=is_unbuffered,
    )


def detach_output() -> None:
    """From now on, do not let readers of the output block the command."""
    for outlet in _outlets.values():
        outlet.detach()


def is_output_gone() -> bool:
    """Whether the reader of standard output is gone."""
    return STDOUT in _outlets and _outlets[STDOUT].is_gone()


def close_output() -> OSError | None:
    """Flush within a time limit; returns why standard output could not be written, unless its reader is gone."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for outlet in _outlets.values():
        outlet.settle(CLOSE_SECONDS)
    lost = _outlets[STDOUT].lost if STDOUT in _outlets else None
    return None if lost and lost.errno in READER_LEFT else lost
