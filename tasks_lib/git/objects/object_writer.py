"""Writes git objects without starting git; each is complete and on disk before its id is returned."""

import hashlib
import threading
import zlib
from functools import cached_property
from pathlib import Path

from tasks_lib.git.runner import Git
from tasks_lib.process.files import write_atomically

_COMPRESSION = 1
"""Git's own default for loose objects; the next `gc` repacks them."""
_OBJECT_MODE = 0o444


class ObjectWriter:
    """Writes objects to one repository the way git does; thread-safe."""

    def __init__(self, git: Git) -> None:
        self._git: Git = git
        self._lock: threading.Lock = threading.Lock()

    def write(self, kind: str, data: bytes) -> str:
        """Write `data`, the raw content of a `blob`, `tree` or `commit`, and return the object id."""
        with self._lock:
            folder, algorithm = self._folder, self._git.layout.object_format
        if folder is None:
            return self._git.run("hash-object", "-w", "-t", kind, "--stdin", stdin=data).text
        whole = f"{kind} {len(data)}\0".encode() + data
        oid = hashlib.new(algorithm, whole, usedforsecurity=False).hexdigest()
        _write_durably(folder / oid[:2] / oid[2:], zlib.compress(whole, _COMPRESSION))
        return oid

    @cached_property
    def _folder(self) -> Path | None:
        """The directory of loose objects; None if a group shares the repository: then git must set the permissions."""
        if self._git.run("config", "--get", "core.sharedRepository", accept=(0, 1)).status == 0:
            return None
        return self._git.layout.common_dir / "objects"


def _write_durably(path: Path, data: bytes) -> None:
    """Write `data` to `path`, flushed to disk before it is renamed to that name.

    Like `core.fsync=committed`: after a power failure, no ref may point to objects that were lost. A file that already
    exists is written again, because one that an agent's git wrote may not be on disk yet.
    """
    path.parent.mkdir(exist_ok=True)
    # If we are killed before the rename, `git gc` removes a file of this name.
    write_atomically(path, data, mode=_OBJECT_MODE, unfinished=path.with_name("tmp_obj_"), is_durable=True)
