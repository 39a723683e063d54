"""Lists the commits that came onto a branch between two of its states."""

from dataclasses import dataclass

from tasks_lib.git.runner import Git

_FIELDS = ("%h", "%ct", "%an", "%s")


@dataclass(frozen=True, slots=True)
class CommitSummary:
    """A commit by its abbreviated id; `committed_at` is in seconds since the epoch, as the commit itself says."""

    id: str
    committed_at: float
    author: str
    subject: str


def count_first_parents(git: Git, before: str, after: str) -> int:
    """How many first-parent commits `after` has that `before` does not contain."""
    return int(git.text("rev-list", "--count", "--first-parent", f"{before}..{after}"))


def list_new_commits(git: Git, before: str, after: str, limit: int) -> tuple[CommitSummary, ...]:
    """The last `limit` first-parent commits of `after` that `before` does not contain, oldest first.

    Empty where one of the two does not exist.
    """
    words = ("--first-parent", "--reverse", f"--max-count={limit}", f"--format={'%x00'.join(_FIELDS)}")
    found = git.run("log", *words, after, f"^{before}", accept=(0, 128))
    rows = [line.split("\0", len(_FIELDS) - 1) for line in found.text.split("\n")] if found.status == 0 else []
    return tuple(CommitSummary(row[0], float(row[1] or 0), row[2], row[3]) for row in rows if len(row) == len(_FIELDS))
