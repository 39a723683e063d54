"""Remembers in the data directory which deployments coordinator made, and what it wrote there last.

Prefect has no hidden place for this that can be changed later. The ids of flows are the keys, since they differ from
server to server; if a server's database is lost, nothing in it counts as deleted by a person.
"""

import fcntl
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from flows.data_directory import data_dir
from tasks_lib.process.files import write_atomically

NAME = "deployments.json"


class Memory:
    """The fields that were written last, by the id of a flow and the name of a deployment."""

    def __init__(self, known: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        self._known: dict[str, dict[str, Mapping[str, Any]]] = {flow: dict(names) for flow, names in known.items()}

    def recall(self, flow: UUID, name: str) -> Mapping[str, Any] | None:
        """What was written last; None if this coordinator never made the deployment."""
        return self._known.get(str(flow), {}).get(name)

    def remember(self, flow: UUID, name: str, written: Mapping[str, Any]) -> None:
        self._known.setdefault(str(flow), {})[name] = written

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(self._known, indent=1).encode())


@contextmanager
def remembering() -> Generator[Memory]:
    """Yield the memory, and write it when the block ends, even by an error; another process waits meanwhile."""
    path = data_dir() / NAME
    with (data_dir() / f"{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        memory = Memory(_read(path))
        try:
            yield memory
        finally:
            memory.write(path)


def _read(path: Path) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {flow: dict(names) for flow, names in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
