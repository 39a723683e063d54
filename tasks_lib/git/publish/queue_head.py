"""The head of the queue: the newest verified merge. Says where it is, moves it, and compares it with the base."""

from collections.abc import Callable
from dataclasses import dataclass

from tasks_lib.errors import GitError, InputError
from tasks_lib.git.commits.commit import parse_commit
from tasks_lib.git.commits.commit_messages import TASK
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.publish.queue_refs import TRIES, QueueRefs
from tasks_lib.git.runner import Git


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The base has not moved, or is in the history of `head`, which stays valid, published or not."""

    head: str
    base: str


@dataclass(frozen=True, slots=True)
class FollowedBase:
    """No work is unpublished, so the head is the base again: `head`."""

    head: str


@dataclass(frozen=True, slots=True)
class NeedsRebuild:
    """The base moved while the queue's `commits` (oldest first) were unpublished: recreate them on `base`.

    Until then `head`, the value to move from, keeps them alive; their branches may be gone.
    """

    base: str
    head: str
    commits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The base no longer contains `known_base`, on which the queue's work is built: the user has to decide."""

    base: str
    known_base: str


Reconciled = Unchanged | FollowedBase | NeedsRebuild | Rewritten


class Head:
    """The head of the queue for the branch `target`. Moves are compare-and-swap, so several processes are safe.

    The arguments are those of QueueRefs, which `refs` is.
    """

    def __init__(
        self,
        git: Git,
        target: str,
        remote_base: str | None = None,
        on_foreign_move: Callable[[str], None] | None = None,
    ) -> None:
        self._git: Git = git
        self.refs: QueueRefs = QueueRefs(git, target, remote_base, on_foreign_move)
        self._line: dict[str, int] = {}

    def base(self) -> str:
        """The commit of the base. Raises InputError if the branch does not exist."""
        return self.refs.read_if_changed().base

    def current(self) -> str:
        """The head: the queue's ref, or the base if there is none. Raises InputError without a base."""
        return self.refs.read_if_changed().head

    def last_seen(self) -> str:
        """The head as this object last read or moved it; reads it the first time.

        For uses where it may be slightly out of date: only `advance` decides, and it compares.
        """
        return self.refs.last_read().head

    def newest_seen(self) -> str:
        """The current head, or the last seen one if it cannot be read: the user may have deleted the base."""
        try:
            return self.current()
        except InputError:
            return self.last_seen()

    def last_seen_base(self) -> str:
        """The base as this object last read it; reads it the first time."""
        return self.refs.last_read().base

    def contains(self, commit: str, head: str) -> bool:
        """Whether `head` is `commit` or has it in its history; does not run git for this object's own moves."""
        if commit == head:
            return True
        if commit in self._line and head in self._line:
            return self._line[commit] < self._line[head]
        return is_ancestor(self._git, commit, head)

    def advance(self, old: str, new: str) -> bool:
        """Move the head from `old` to `new`, a child of it; False if it was no longer at `old`.

        Raises GitError if git cannot move it for another reason.
        """
        if not self.replace(old, new):
            return False
        # A line of this object's own moves, in which each commit contains all before it.
        if self._line.get(old) != len(self._line) - 1:
            self._line = {old: 0}
        self._line[new] = len(self._line)
        return True

    def replace(self, old: str, new: str) -> bool:
        """Move the head from `old` to any `new`, which need not contain it; False if it was no longer at `old`."""
        return self.refs.move(old, new)

    def hold(self, commit: str) -> bool:
        """Set the head to `commit`, a base that has since moved, so that work lands on it and is published later.

        False if the queue's ref already exists, which is then the head.
        """
        return self.refs.create(commit)

    def is_pending(self) -> bool:
        """Whether the head has verified work that the base has not."""
        found = self.refs.read_if_changed()
        return found.queue is not None and not self._has(found.base, found.queue)

    def is_published(self) -> bool:
        """Whether the queue's ref exists although all of it is published; False if the base is gone."""
        return self._find_published() is not None

    def _find_published(self) -> str | None:
        try:
            found = self.refs.read_if_changed()
        except InputError:
            return None
        return found.queue if found.queue is not None and self._has(found.base, found.queue) else None

    def _has(self, base: str, queue: str) -> bool:
        return queue == base or is_ancestor(self._git, queue, base)

    def finish(self) -> None:
        """Delete the queue's ref if all of it is published; it stays if it moves meanwhile, or if the base is gone."""
        if (queue := self._find_published()) is not None:
            self.refs.delete(queue)

    def reconcile(self, known_base: str | None) -> Reconciled:
        """Compare the head with the base, and follow the base if no unpublished work is in between.

        `known_base` is the base as last seen, None at the start. Raises InputError without a base, and GitError if
        another process keeps moving the queue's ref.
        """
        for _ in range(TRIES):
            position = self.refs.read_if_changed()
            queue, base = position.queue, position.base
            if known_base and known_base != base and not self.contains(known_base, base):
                return Rewritten(base, known_base)
            found = self._compare(queue, base, known_base)
            if not isinstance(found, FollowedBase) or queue is None or self.refs.swap(queue, base):
                return found
        command = ("update-ref", self.refs.queue_ref)
        raise GitError(command, 1, "another process keeps moving it; is a second coordinator running?")

    def _compare(self, queue: str | None, base: str, known_base: str | None) -> Reconciled:
        if queue is None:
            return Unchanged(base, base) if known_base == base else FollowedBase(base)
        if self.contains(base, queue):
            return Unchanged(queue, base)
        if self.contains(queue, base):
            return FollowedBase(base)
        commits = self._git.text("rev-list", "--first-parent", "--reverse", queue, f"^{base}").split()
        # A commit that coordinator did not create was the base once, or the head would not be built on it.
        foreign = [commit for commit in commits if not self._is_coordinators(commit)]
        return Rewritten(base, foreign[-1]) if foreign else NeedsRebuild(base, queue, tuple(commits))

    def _is_coordinators(self, commit: str) -> bool:
        return TASK in parse_commit(commit, self._git.run("cat-file", "commit", commit).stdout).trailers
