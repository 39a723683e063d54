"""Identifies this machine, so that nothing here takes for its own what another machine has left."""

import hashlib
import socket
from functools import cache
from pathlib import Path

_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))


@cache
def identify_machine() -> str:
    """Return a digest of this host's name and, where there is one, of systemd's id of the machine.

    It survives restarts, and shows neither of the two. Machines made from one image may share the id, and unrelated
    ones a name, so it takes both to be equal.
    """
    found = next((text for path in _FILES if (text := _read(path))), "")
    return hashlib.sha256(f"coordinator\0{socket.gethostname()}\0{found}".encode()).hexdigest()[:16]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
