"""A commit as a value, and its parser: no other module parses commit objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tasks_lib.git.commits.commit_messages import read_trailers
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.runner import Git
from tasks_lib.moments import find_moment


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit object, with undecodable bytes replaced.

    `author` and `committer` are as git stores them: name, address, seconds since the epoch and time zone.
    """

    id: str
    tree: str
    parents: tuple[str, ...]
    author: str
    committer: str
    message: str

    @property
    def subject(self) -> str:
        """The first line of the message."""
        return self.message.partition("\n")[0]

    @property
    def trailers(self) -> dict[str, str]:
        """The trailers of the message by name; if a name occurs twice, the last value."""
        return read_trailers(self.message)

    @property
    def committed_at(self) -> datetime:
        """The committer date in UTC; the epoch if there is none, since git stores any text."""
        seconds = self.committer.split(" ")[-2:][0]
        return find_moment(float(seconds) if seconds.isdecimal() else 0)


def parse_commit(commit: str, data: bytes) -> Commit:
    """Parse `data`, the raw content of the commit object with the id `commit`."""
    header, _, message = data.decode("utf-8", "replace").partition("\n\n")
    values: dict[str, list[str]] = {}
    for line in header.split("\n"):
        # Continuation lines of a signature start with a space, so they have no name.
        name, _, value = line.partition(" ")
        values.setdefault(name, []).append(value)
    tree, author, committer = (values.get(name, [""])[0] for name in ("tree", "author", "committer"))
    return Commit(commit, tree, tuple(values.get("parent", ())), author, committer, message)


def read_commit(objects: Objects, commit: str) -> Commit:
    """Read the commit with the id `commit`. Raises GitError if there is none."""
    return parse_commit(commit, objects.read(commit))


def read_commits(git: Git, commits: Sequence[str]) -> list[Commit]:
    """Read the commits with these ids, in the same order. Raises GitError if one is missing."""
    with Objects(git) as objects:
        return [parse_commit(*pair) for pair in zip(commits, objects.read_each(commits), strict=True)]


def read_first_parents(git: Git, head: str, limit: int) -> list[Commit]:
    """Read the last `limit` commits in the first-parent history of `head`, newest first."""
    return read_commits(git, git.text("rev-list", "--first-parent", f"--max-count={limit}", head).split())
