"""Describes what dead runs leave: what is done about each kind and why, and how an audit reports it."""

from dataclasses import dataclass
from enum import Enum, auto

from tasks_lib.git.worktrees.repair_after_kill import StaleState


class Kind(Enum):
    """The kind of a leftover."""

    PROCESS = auto()
    INTERRUPTED = auto()
    LOCK = auto()
    NESTED = auto()
    UNFINISHED = auto()
    STALE = auto()
    TRASH = auto()
    EMPTY = auto()
    LANDED = auto()
    BRANCH = auto()
    QUEUE = auto()
    PRIVATE = auto()
    SHARED = auto()
    LOG = auto()
    KEPT = auto()
    SESSION = auto()
    PUBLISHED = auto()


LEFT_BY_KILL = "was left by a run that was killed"
LEFT_IN_USE = "a worktree that a run was using when it was killed"
STALE_WORDS = {
    StaleState.HALF_MADE: LEFT_IN_USE,
    StaleState.POOLED: LEFT_IN_USE,
    StaleState.UNLINKED: "a worktree whose .git is missing",
    StaleState.GONE: "a worktree that is gone but still registered with git",
}


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that a dead run left: `where` it is, what is `done` about it, and what an audit reports as `found`.

    `subject` starts the sentence about what is done, by default `where` and a colon.
    """

    kind: Kind
    where: str
    done: str
    found: str
    subject: str = ""

    def describe_plan(self) -> str:
        """Return a line about what would be done."""
        return f"{self.subject or f'{self.where}:'} would be {self.done}"

    def describe_done(self) -> str:
        """Return a line about what was done; more may be appended, such as where a state is kept."""
        return f"{self.subject} was {self.done}" if self.subject else f"{self.where}: {self.done}"
