"""Hides how the record of a session and the notices of its agent are kept in the worktree's git directory."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import cast

from tasks_lib.model import AttemptEnd, Notice, NoticeLevel, RecordStage, Stage
from tasks_lib.process.files import find_unfinished, read_regular, write_atomically
from tasks_lib.session.spending import NOTHING, Spent

RECORD_NAME = "coordinator.json"
NOTICES_NAME = "coordinator-notices.jsonl"
MAX_RECORD_BYTES = 4 << 20
"""Twenty notes and a report are far below it; what is larger was not written by us."""
MAX_NOTICES_BYTES = 1 << 20
"""So much of the notices is read, from their end on, and not much more is written: an agent may report in a loop."""
MAX_NOTICE_CHARS = 16_000
MAX_LINK_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Record:
    """What a rerun has to know of a node at work; commits are full ids, "" for none.

    `base` is the head when the branch was made or the attempt began, `turn_start` the branch's commit when the last
    turn began, `finished` the one accepted for landing, `reviewed` the one approved. `rounds` counts how often
    work was given back. `pid_started` is the process's start in seconds since the epoch, so that a reused pid is not
    taken for it. `notes` are those of earlier attempts, oldest first. `updated` is ISO 8601 in UTC. `allowance` is the
    attempt from which `retry.attempts` is counted; `refused` the commit that was given back, `review_rounds` how often
    by a reviewer. `answer` and `verdict` are what the agent said of the work that is finished. `conversation` is the
    backend's own name of the session's conversation; `messages` are a person's, to be part of the next prompt. `spent`
    is what all attempts of the node have used, `attempt_spent` what this one has, `forgiven` what had been used when a
    person let a blocked node go on. `fork` is the commit of the head that the branch began at, `cautions` are findings
    that the session was told and may leave as they are, `protected` the files that a person was asked to allow,
    `prepared` what `setup` left uncommitted: a mark of the content, and the path.
    """

    task_id: str
    branch: str
    attempt: int = 1
    turn: int = 0
    session: str = ""
    run: str = ""
    slot: int = 0
    stage: RecordStage | None = None
    base: str = ""
    turn_start: str = ""
    rounds: int = 0
    finished: str = ""
    reviewed: str = ""
    pid: int = 0
    pid_started: float = 0.0
    notes: tuple[str, ...] = ()
    updated: str = ""
    allowance: int = 1
    refused: str = ""
    review_rounds: int = 0
    answer: str = ""
    verdict: str = ""
    conversation: str = ""
    messages: tuple[str, ...] = ()
    spent: Spent = NOTHING
    attempt_spent: Spent = NOTHING
    forgiven: Spent = NOTHING
    fork: str = ""
    cautions: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()


_LISTS = ("notes", "messages", "cautions", "protected", "prepared")
_SUMS = ("spent", "attempt_spent", "forgiven")


def read_record(git_dir: Path) -> Record | None:
    """The record in `git_dir`; None if there is none or it cannot be read. Unknown keys are ignored."""
    try:
        found: object = json.loads(read_regular(git_dir / RECORD_NAME, MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return _build_record(cast("dict[str, object]", found))


def _build_record(found: dict[str, object]) -> Record | None:
    values: dict[str, object] = {}
    for field in fields(Record):
        if field.name not in found:
            continue
        value = found[field.name]
        if field.name in _LISTS and isinstance(value, list):
            value = tuple(cast("list[object]", value))
        elif field.name in _SUMS and isinstance(value, dict):
            value = _build_spent(cast("dict[str, object]", value))
        elif field.name == "stage":
            if not isinstance(value, str):
                return None
            value = parse_stage(value)
        elif field.name == "pid_started" and type(value) is int:
            value = float(value)
        values[field.name] = value
    if not {"task_id", "branch"} <= values.keys() or not all(_has_type(*item) for item in values.items()):
        return None
    return Record(**values)  # pyright: ignore[reportArgumentType] - Each value's type was compared just above.


def parse_stage(text: str) -> RecordStage | None:
    """The stage that a record names; None for "" and for a word of another version, after which an attempt resumes."""
    known: dict[str, RecordStage] = {str(one): one for kind in (Stage, AttemptEnd) for one in kind}
    return known.get(text)


def _build_spent(found: dict[str, object]) -> Spent:
    """Numbers alone count, in the type that each has; what is missing or something else is 0."""
    known = {name: found.get(name) for name in asdict(NOTHING)}
    return Spent(
        **{name: type(getattr(NOTHING, name))(value) for name, value in known.items() if type(value) in (int, float)}
    )  # pyright: ignore[reportArgumentType, reportCallIssue] - Each is turned into its field's type.


def _has_type(name: str, value: object) -> bool:
    if name in _LISTS:
        return isinstance(value, tuple) and all(isinstance(note, str) for note in cast("tuple[object, ...]", value))
    if name == "stage":
        return value is None or isinstance(value, Stage | AttemptEnd)
    # The exact type, because a bool is an int too.
    return type(value) is type(getattr(_EXAMPLE, name))


_EXAMPLE = Record("", "")


def write_record(git_dir: Path, record: Record) -> None:
    """Write `record` so that a reader, or a kill at any moment, finds the old one or the new one."""
    values = {**asdict(record), "stage": record.stage or ""}
    path, data = git_dir / RECORD_NAME, json.dumps(values, indent=1).encode() + b"\n"
    try:
        write_atomically(path, data)
    except IsADirectoryError:  # An agent's doing; nothing of ours is a directory there.
        shutil.rmtree(path)
        write_atomically(path, data)


def remove_record(git_dir: Path) -> None:
    """Remove the record and what a kill left of writing it; none being there is fine."""
    (git_dir / RECORD_NAME).unlink(missing_ok=True)
    for leftover in find_unfinished(git_dir):
        leftover.unlink(missing_ok=True)


def append_notice(git_dir: Path, notice: Notice) -> None:
    """Append `notice`; several processes may do so at once, since each line is one appending write.

    A text is cut at `MAX_NOTICE_CHARS`. Raises OSError when the notices are `MAX_NOTICES_BYTES` long already; one
    that blocks is written even then, up to twice as many.
    """
    path = git_dir / NOTICES_NAME
    words = {"level": notice.level.value, "text": notice.text[:MAX_NOTICE_CHARS], "turn": notice.turn}
    # A newline in front too: after a torn line this one still starts on a line of its own.
    line = b"\n" + json.dumps(words).encode() + b"\n"
    limit = MAX_NOTICES_BYTES * (2 if notice.level is NoticeLevel.BLOCKING else 1)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    try:
        if os.fstat(descriptor).st_size > limit:
            raise OSError(f"{path}: too much was reported already; this notice is not kept")
        if os.write(descriptor, line) != len(line):
            raise OSError(f"{path}: the notice was cut short; the disk may be full")
    finally:
        os.close(descriptor)


def read_notices(git_dir: Path, start: int = 0) -> tuple[Notice, ...]:
    """The notices from byte `start` on, oldest first, of the last `MAX_NOTICES_BYTES`; none where that is no file.

    A torn or foreign line is passed over.
    """
    try:
        lines = read_regular(git_dir / NOTICES_NAME, MAX_NOTICES_BYTES, start).split(b"\n")
    except OSError:
        return ()
    return tuple(notice for line in lines if line and (notice := _parse_notice(line)))


def measure_notices(git_dir: Path) -> int:
    """The bytes of the notices, 0 where there are none."""
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
    return Notice(level, text, turn) if isinstance(text, str) and type(turn) is int else None


def clear_notices(git_dir: Path) -> None:
    """Forget the notices; none being there is fine."""
    path = git_dir / NOTICES_NAME
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def read_git_link(place: Path) -> Path | None:
    """The git directory that `.git` in `place` is or points to, or None."""
    link = place / ".git"
    try:
        # Not text that must decode: a path on disk is bytes.
        words = os.fsdecode(read_regular(link, MAX_LINK_BYTES))
    except IsADirectoryError:
        return link
    except OSError:
        return None
    return (place / words[len("gitdir: ") :].rstrip("\n")).resolve() if words.startswith("gitdir: ") else None
