"""Objects that only this run needs, in a directory of their own: the repository never contains them."""

import hashlib
import shutil
import threading
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from tasks_lib.git.runner import Git

TRANSIENT = ("-c", "core.fsync=none", "-c", "core.looseCompression=0")
"""Options of git for what it writes here, which is soon deleted: half of the processor time of a merge, and more."""
_COMPRESSION = 1
MOST_BYTES = 500 << 20
"""How many bytes, before compression, are written before everything is deleted and written anew where still needed."""


class Quarantine:
    """A directory `place` for objects that git finds in addition to those of the repository of `git`; thread-safe.

    Nothing in it survives the run: it is below the run's temporary directory. What is written is not flushed to disk.
    """

    def __init__(self, git: Git, place: Path) -> None:
        self._git: Git = git
        self.place: Path = place
        self._written: int = 0
        self._lock: threading.Lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        return self._written > MOST_BYTES

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which git writes its objects here."""
        self._states.mkdir(parents=True, exist_ok=True)
        return _list_variables(self._states, self._git.layout.common_dir / "objects")

    @contextmanager
    def discarding(self) -> Generator[dict[str, str]]:
        """Yield variables with which git finds what is here, and writes what is deleted after the block."""
        self._states.mkdir(parents=True, exist_ok=True)
        directory = Path(mkdtemp(prefix="merges-", dir=self.place))
        try:
            yield _list_variables(directory, self._states, self._git.layout.common_dir / "objects")
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def write(self, kind: str, data: bytes) -> str:
        """Write `data`, the raw content of a `blob`, `tree` or `commit`, and return the object id."""
        whole = f"{kind} {len(data)}\0".encode() + data
        oid = hashlib.new(self._git.layout.object_format, whole, usedforsecurity=False).hexdigest()
        path = self._states / oid[:2] / oid[2:]
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"tmp_obj_{threading.get_ident()}_{oid[2:]}")
            unfinished.write_bytes(zlib.compress(whole, _COMPRESSION))
            unfinished.rename(path)
            self.count(len(whole))
        return oid

    def count(self, size: int) -> None:
        """Count what git has written here."""
        with self._lock:
            self._written += size

    def clear(self) -> None:
        """Delete everything; callers write again what they still need."""
        shutil.rmtree(self._states, ignore_errors=True)
        self._written = 0

    @property
    def _states(self) -> Path:
        return self.place / "objects"


def _list_variables(place: Path, *others: Path) -> dict[str, str]:
    # Git splits the list at colons, except in quotes.
    listed = ":".join(f'"{_escape(str(other))}"' for other in others)
    return {"GIT_OBJECT_DIRECTORY": str(place), "GIT_ALTERNATE_OBJECT_DIRECTORIES": listed}


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
