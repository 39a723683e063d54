"""`coordinator notify`: records what an agent reports from its worktree, without network, git or a server."""

import sys
from pathlib import Path

from tasks_lib.errors import InputError
from tasks_lib.git.session_record import append_notice, read_git_link, read_record
from tasks_lib.model import Notice, NoticeLevel
from tasks_lib.session.attempt_record import Record


def notify(directory: Path, level: NoticeLevel, text: str) -> None:
    """Append the notice for the node whose worktree contains `directory`, and print one line.

    Raises InputError outside such a worktree, and for an empty text.
    """
    if not text.strip():
        raise InputError(["the text is empty; write what you want to report, in quotes"])
    git_dir, record = find_node(directory)
    try:
        append_notice(git_dir, Notice(level, text, record.turn.number))
    except OSError as error:
        raise InputError([f"the notice for {record.task_id} could not be written: {error}"]) from error
    advice = " Commit the work that is coherent, and end your turn." if level is NoticeLevel.BLOCKING else ""
    sys.stdout.write(f"Noted for {record.task_id} ({level}).{advice}\n")


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
