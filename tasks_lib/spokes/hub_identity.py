"""Names a run's repository where its machines meet, and remembers which sessions it began: these alone are its own.

The name is made once and kept in the git directory, so that it survives moves and restarts. A copy of the repository,
also one in a copy of the whole machine, has it too; but not the sessions that the original begins from then on.
"""

import json
import time
from collections.abc import Collection
from threading import Lock
from typing import cast
from uuid import uuid4

from tasks_lib.git.repository import Repository
from tasks_lib.process.files import write_atomically
from tasks_lib.process.machine_identity import identify_machine

HUB_FILE = "hub.json"
MEMORY_SECONDS = 7 * 86_400.0
"""How long an ended session is remembered: its machine may be cut off, and push what it has when it is back."""


class HubIdentity:
    """The identity of `repository` on `machine`; reading it changes nothing.

    `name` is part of the names of its refs on the remote. One that was read on another machine, or in a directory with
    another inode, is replaced by a new one: whether the original still exists cannot be known. Methods block, and may
    be called from several threads.
    """

    def __init__(self, repository: Repository, machine: str = "") -> None:
        self._path = repository.state_dir / HUB_FILE
        self._here = {"machine": machine or identify_machine(), "inode": repository.common_dir.stat().st_ino}
        self._lock = Lock()
        found = self._read()
        is_here = bool(found.get("name")) and all(found.get(key) == value for key, value in self._here.items())
        self.name: str = str(found["name"]) if is_here else uuid4().hex[:12]
        sessions = _read_sessions(found)
        self._sessions: dict[str, float] = sessions if is_here else {}
        self._former: tuple[str, int] = ("", 0) if is_here else (str(found.get("name", "")), len(sessions))

    def _read(self) -> dict[str, object]:
        try:
            found: object = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return cast("dict[str, object]", found) if isinstance(found, dict) else {}

    def owns(self, session: str) -> bool:
        """Whether this repository began the session, here and under this name."""
        return session in self._sessions

    def add(self, session: str) -> None:
        """Remember a session; call this before anything of it can be found elsewhere."""
        with self._lock:
            if session not in self._sessions:
                self._sessions[session] = time.time()
                self._write()

    def forget_old(self, kept: Collection[str]) -> None:
        """Forget sessions that began `MEMORY_SECONDS` ago, except those in `kept`."""
        with self._lock:
            since = time.time() - MEMORY_SECONDS
            old = {session for session, began in self._sessions.items() if began < since} - {*kept}
            for session in old:
                del self._sessions[session]
            if old:
                self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(exist_ok=True)
        said = {"name": self.name, **self._here, "sessions": self._sessions}
        write_atomically(self._path, json.dumps(said).encode())

    def describe_former(self, place: str) -> str:
        """Say which refs below `place` on the remote were left under an earlier name; "" if there is none."""
        name, count = self._former
        if not count:
            return ""
        return (
            "This repository was copied, restored or moved from another disk or machine, or this host was renamed. "
            f"What it began elsewhere before (sessions: {count}) may belong to another copy, and is left alone. It "
            f"ends within an hour; if there is no other copy, delete what is then left at {place}/{name}/."
        )


def _read_sessions(found: dict[str, object]) -> dict[str, float]:
    sessions = found.get("sessions")
    rows = cast("dict[str, object]", sessions) if isinstance(sessions, dict) else {}
    return {session: float(began) for session, began in rows.items() if isinstance(began, int | float)}
