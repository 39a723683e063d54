"""Shows a session's log on the run's machine while a turn is in progress; after the turn, the whole log replaces it."""

from contextlib import suppress
from pathlib import Path

from tasks_lib.process.files import read_regular

PIECE_BYTES = 4 << 10
"""How much of a log's end is sent with each progress; of an agent that writes faster, the rest comes after the turn."""


def read_end(log: Path) -> tuple[str, int]:
    """Return the end of a log, and its size in bytes; ("", 0) if there is none.

    The text has as many bytes as were read: a byte that is not part of a UTF-8 character is sent as one question mark.
    """
    try:
        data = read_regular(log, PIECE_BYTES)
        size = log.stat().st_size
    except OSError:
        return "", 0
    return data.decode("utf-8", "surrogateescape"), size


class LogMirror:
    """The log of a session elsewhere, of which pieces arrive; `path` is where the log of a local session would be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = -1

    def add(self, piece: str, end: int) -> None:
        """Append what is new in `piece`, the last bytes of a log whose size is `end`; say how much was left out."""
        data = piece.encode("utf-8", "replace")
        if self._end < 0:  # A run that was killed may have begun this file.
            self._end = min(_size(self._path), end)
        missing = end - self._end
        if missing <= 0:
            return
        gap = missing - len(data)
        note = f"\n[{gap} bytes follow after the turn]\n".encode() if gap > 0 else b""
        with suppress(OSError), self._path.open("ab") as file:
            file.write(note + data[-missing:])
            self._end = end


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
