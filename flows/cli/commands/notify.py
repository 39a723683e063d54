"""`coordinator notify`: records what an agent reports from its worktree, without network, git or a server."""

import sys
from datetime import datetime
from pathlib import Path

from tasks_lib.errors import InputError
from tasks_lib.git.session_record import MAX_MOMENT, append_notice, read_git_link, read_record
from tasks_lib.model import Notice, NoticeLevel
from tasks_lib.session.attempt_record import Record

ADVICE = {
    NoticeLevel.BLOCKING: " Commit the work that is coherent, and end your turn.",
    NoticeLevel.LIMIT: " Exit with 75 to be asked again.",
}


def notify(directory: Path, level: NoticeLevel, text: str, until: str = "") -> None:
    """Append the notice for the node whose worktree contains `directory`, and print one line.

    Raises InputError outside such a worktree, for an empty text, and for an `until` that cannot be read or that comes
    without the level `limit`.
    """
    faults = [] if text.strip() else ["the text is empty; write what you want to report, in quotes"]
    moment = read_moment(until)
    if moment is None:
        faults.append(
            f"--until {until}: write a date, a time and a zone, such as 2026-11-27T10:00:00Z, or seconds since 1970"
        )
    if until and level is not NoticeLevel.LIMIT:
        faults.append("--until says when a limit ends; use it with --level limit")
    if faults:
        raise InputError(faults)
    git_dir, record = find_node(directory)
    try:
        append_notice(git_dir, Notice(level, text, record.turn.number, moment or 0.0))
    except OSError as error:
        raise InputError([f"the notice for {record.task_id} could not be written: {error}"]) from error
    sys.stdout.write(f"Noted for {record.task_id} ({level}).{ADVICE.get(level, '')}\n")


def read_moment(text: str) -> float | None:
    """A moment in seconds since the epoch, from such a number or from ISO 8601 with a zone; 0 for "", else None."""
    if not text:
        return 0.0
    try:
        at = float(text)
    except ValueError:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            return None
        if found.tzinfo is None:
            return None
        at = found.timestamp()
    return at if 0 <= at < MAX_MOMENT else None


def find_node(directory: Path) -> tuple[Path, Record]:
    """Find the git directory and the record of the worktree that contains `directory`.

    Repositories inside the worktree, such as submodules, are skipped.
    """
    start = directory.resolve()
    for place in (start, *start.parents):
        git_dir = read_git_link(place)
        record = read_record(git_dir) if git_dir else None
        if git_dir and record:
            return git_dir, record
    raise InputError([f"{start} is not in a worktree of a coordinator task; run this in the task's worktree"])
