"""Lists the commits added to a branch between two of its states."""

from dataclasses import dataclass

from tasks_lib.git.runner import Git

_FIELDS = ("%h", "%ct", "%an", "%s")


@dataclass(frozen=True, slots=True)
class CommitSummary:
    """A commit with its abbreviated id; `committed_at` is its committer date in seconds since the epoch."""

    id: str
    committed_at: float
    author: str
    subject: str


def list_new_commits(git: Git, before: str, after: str, limit: int) -> tuple[CommitSummary, ...]:
    """List the last `limit` commits in the first-parent history of `after` that are not in `before`, oldest first.

    Empty if either commit does not exist.
    """
    words = ("--first-parent", "--reverse", f"--max-count={limit}", f"--format={'%x00'.join(_FIELDS)}")
    found = git.run("log", *words, after, f"^{before}", accept=(0, 128))
    rows = [line.split("\0", len(_FIELDS) - 1) for line in found.text.split("\n")] if found.status == 0 else []
    return tuple(CommitSummary(row[0], float(row[1] or 0), row[2], row[3]) for row in rows if len(row) == len(_FIELDS))
