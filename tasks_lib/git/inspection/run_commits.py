"""Reads what a report on a run needs from the target's history: each commit, who made it, and how much it changed."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

from tasks_lib.git.commits.commit_messages import read_trailers
from tasks_lib.git.runner import Git
from tasks_lib.reporting.run_facts import RunCommit

_FIELDS = ("%H", "%ct", "%an", "%B")


def read_commits_since(git: Git, head: str, since: float, tasks_dir: str) -> tuple[RunCommit, ...]:
    """Read the first-parent commits of `head` that were made at `since` (seconds since the epoch) or later.

    Oldest first, each compared with its first parent. What changed below `tasks_dir` is not counted, and neither are
    binary files.
    """
    mark = uuid.uuid4().hex  # A message can contain anything else.
    words = ("--first-parent", "--reverse", "--diff-merges=first-parent", "--numstat", "--no-renames", "-z")
    moment = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    form = f"--format={mark}{'%x00'.join(_FIELDS)}{mark}"
    found = git.run("log", *words, f"--since-as-filter={moment}", form, head, "--")
    return tuple(_parse(found.text, mark, tasks_dir))


def _parse(text: str, mark: str, tasks_dir: str) -> Iterator[RunCommit]:
    parts = text.split(mark)[1:]
    for header, changes in zip(parts[::2], parts[1::2], strict=False):
        commit, at, author, message = header.split("\0", len(_FIELDS) - 1)
        lines = dict(_parse_changes(changes, tasks_dir))
        yield RunCommit(commit, float(at or 0), author, message.partition("\n")[0], read_trailers(message), lines)


def _parse_changes(text: str, tasks_dir: str) -> Iterator[tuple[str, int]]:
    for change in text.split("\0"):
        added, _, rest = change.strip("\n").partition("\t")
        removed, _, path = rest.partition("\t")
        if added.isdecimal() and removed.isdecimal() and not path.startswith(f"{tasks_dir}/"):
            yield path, int(added) + int(removed)
