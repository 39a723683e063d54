"""Writes git objects without starting git, each whole and on disk before its id is given out."""

import hashlib
import threading
import zlib
from functools import cached_property
from pathlib import Path

from tasks_lib.git.runner import Git
from tasks_lib.process.files import write_atomically

_COMPRESSION = 1
"""As git has it for loose objects; they are packed anew by the next `gc`."""
_OBJECT_MODE = 0o444


class ObjectWriter:
    """Writes objects of one repository as git does; several threads may call."""

    def __init__(self, git: Git) -> None:
        self._git: Git = git
        self._lock: threading.Lock = threading.Lock()

    def write(self, kind: str, data: bytes) -> str:
        """Write `data` as a `blob`, `tree` or `commit`, in the form that the object has, and return its id."""
        with self._lock:
            folder, algorithm = self._folder, self._algorithm
        if folder is None:
            return self._git.run("hash-object", "-w", "-t", kind, "--stdin", stdin=data).text
        whole = f"{kind} {len(data)}\0".encode() + data
        oid = hashlib.new(algorithm, whole, usedforsecurity=False).hexdigest()
        _write_durably(folder / oid[:2] / oid[2:], zlib.compress(whole, _COMPRESSION))
        return oid

    @cached_property
    def _folder(self) -> Path | None:
        """Where loose objects are; None where a group shares them, whose rights git knows best."""
        if self._git.run("config", "--get", "core.sharedRepository", accept=(0, 1)).status == 0:
            return None
        return self._git.directory / self._git.text("rev-parse", "--git-path", "objects")

    @cached_property
    def _algorithm(self) -> str:
        return self._git.text("rev-parse", "--show-object-format")


def _write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path`, forced to disk before it has that name.

    As `core.fsync=committed` does: a ref must not outlive, through a power failure, what it reaches. A file that is
    there already is written again, because one that an agent's git wrote may not be on disk yet.
    """
    path.parent.mkdir(exist_ok=True)
    # The name is one that `git gc` takes for rubbish, should we be killed before the rename.
    write_atomically(path, data, mode=_OBJECT_MODE, unfinished=path.with_name("tmp_obj_"), is_durable=True)
