"""Stores the record of a session and its agent's notices in the worktree's git directory."""

import json
import os
import shutil
from pathlib import Path
from typing import cast

from tasks_lib.model import Notice, NoticeLevel
from tasks_lib.process.files import find_unfinished, read_regular, write_atomically
from tasks_lib.session.attempt_record import Record
from tasks_lib.session.record_format import describe_record, parse_record

RECORD_NAME = "coordinator.json"
NOTICES_NAME = "coordinator-notices.jsonl"
MAX_RECORD_BYTES = 4 << 20
"""Far more than twenty notes and a report; a larger file was not written by Coordinator."""
MAX_NOTICES_BYTES = 1 << 20
"""How much of the notices is read, from the end, and about how much is written: an agent may report in a loop."""
MAX_NOTICE_CHARS = 16_000
MAX_MOMENT = 253_402_300_799.0
"""The last second of the year 9999; an agent may name any number."""
MAX_LINK_BYTES = 1 << 14


def read_record(git_dir: Path) -> Record | None:
    """Read the record in `git_dir`; None if there is none or it is unreadable. Unknown keys are ignored."""
    try:
        found: object = json.loads(read_regular(git_dir / RECORD_NAME, MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return parse_record(cast("dict[str, object]", found))


def write_record(git_dir: Path, record: Record) -> None:
    """Write `record` atomically: after a kill, or during a concurrent read, the file is the old or the new one."""
    path, data = git_dir / RECORD_NAME, json.dumps(describe_record(record), indent=1).encode() + b"\n"
    try:
        write_atomically(path, data)
    except IsADirectoryError:  # An agent made it; Coordinator never creates a directory there.
        shutil.rmtree(path)
        write_atomically(path, data)


def remove_record(git_dir: Path) -> None:
    """Remove the record, and unfinished writes that a kill left behind, if any."""
    (git_dir / RECORD_NAME).unlink(missing_ok=True)
    for leftover in find_unfinished(git_dir):
        leftover.unlink(missing_ok=True)


def append_notice(git_dir: Path, notice: Notice) -> None:
    """Append `notice`; several processes may do so concurrently, since each line is a single appending write.

    The text is cut at `MAX_NOTICE_CHARS`. Raises OSError if the file is already longer than `MAX_NOTICES_BYTES`; for
    a blocking notice, the limit is twice that.
    """
    path = git_dir / NOTICES_NAME
    words: dict[str, object] = {
        "level": notice.level.value,
        "text": notice.text[:MAX_NOTICE_CHARS],
        "turn": notice.turn,
    }
    if notice.until:
        words["until"] = notice.until
    # A leading newline too, so that after a torn line this one still starts on its own line.
    line = b"\n" + json.dumps(words).encode() + b"\n"
    limit = MAX_NOTICES_BYTES * (2 if notice.level is NoticeLevel.BLOCKING else 1)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    try:
        if os.fstat(descriptor).st_size > limit:
            raise OSError(f"{path}: too many notices were reported already; this one is not kept")
        if os.write(descriptor, line) != len(line):
            raise OSError(f"{path}: the notice was cut short; the disk may be full")
    finally:
        os.close(descriptor)


def read_notices(git_dir: Path, start: int = 0) -> tuple[Notice, ...]:
    """Read the notices from byte `start` on, oldest first, at most the last `MAX_NOTICES_BYTES`.

    Returns an empty tuple if there is no regular file. Torn or foreign lines are skipped.
    """
    try:
        lines = read_regular(git_dir / NOTICES_NAME, MAX_NOTICES_BYTES, start).split(b"\n")
    except OSError:
        return ()
    return tuple(notice for line in lines if line and (notice := _parse_notice(line)))


def write_notices(git_dir: Path, data: bytes) -> None:
    """Replace the notices by `data`, those of the same agent on another machine; at most the limits of reading."""
    path = git_dir / NOTICES_NAME
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    write_atomically(path, data[-2 * MAX_NOTICES_BYTES :])


def read_notices_file(git_dir: Path) -> bytes:
    """Return the content of the notices file, b"" if there is none."""
    try:
        return read_regular(git_dir / NOTICES_NAME, 2 * MAX_NOTICES_BYTES)
    except OSError:
        return b""


def measure_notices(git_dir: Path) -> int:
    """Return the size of the notices in bytes, 0 if there are none."""
    try:
        return (git_dir / NOTICES_NAME).lstat().st_size
    except OSError:
        return 0


def _parse_notice(line: bytes) -> Notice | None:
    try:
        found: object = json.loads(line)
        words = cast("dict[str, object]", found) if isinstance(found, dict) else {}
        level, text, turn = NoticeLevel(str(words.get("level"))), words.get("text"), words.get("turn", 0)
    except (ValueError, RecursionError):
        return None
    until = words.get("until", 0.0)
    if not isinstance(text, str) or type(turn) is not int or not isinstance(until, int | float):
        return None
    return Notice(level, text, turn, float(until) if 0 <= until < MAX_MOMENT else 0.0)


def find_limit(git_dir: Path, turn: int) -> Notice | None:
    """The last notice in `turn` which says that a provider limits requests; None if there is none."""
    found = (one for one in reversed(read_notices(git_dir)) if one.level is NoticeLevel.LIMIT and one.turn == turn)
    return next(found, None)


def clear_notices(git_dir: Path) -> None:
    """Delete the notices, if any."""
    path = git_dir / NOTICES_NAME
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def read_git_link(place: Path) -> Path | None:
    """Return the git directory that `.git` in `place` is or points to, or None."""
    link = place / ".git"
    try:
        # A path on disk is bytes and need not decode as text.
        words = os.fsdecode(read_regular(link, MAX_LINK_BYTES))
    except IsADirectoryError:
        return link
    except OSError:
        return None
    return (place / words[len("gitdir: ") :].rstrip("\n")).resolve() if words.startswith("gitdir: ") else None
