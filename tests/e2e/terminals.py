"""Starts a command in a terminal, as a person does."""

import os
import pty
import subprocess
import sys
import termios
from contextlib import suppress

from e2e.conftest import Coordinator

IN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
LINES, COLUMNS = 40, 200
BLOCK_BYTES = 4096


def start_in_terminal(own: Coordinator, *arguments: str) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a command that leads a terminal's session; the terminal closes with the returned descriptor."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (LINES, COLUMNS))
    process = subprocess.Popen(
        [sys.executable, "-c", IN_TERMINAL, sys.executable, "-m", "flows.cli", *arguments],
        env=own.environment({"TERM": "xterm"}), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def read_terminal(terminal: int, words: str = "") -> str:
    """What is printed until `words`, or until the last program has closed the terminal."""
    seen = b""
    with suppress(OSError):  # Linux ends a terminal with an error.
        while block := os.read(terminal, BLOCK_BYTES):
            seen += block
            if words and words.encode() in seen:
                break
    return seen.decode()
