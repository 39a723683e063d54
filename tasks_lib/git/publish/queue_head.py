"""The queue's own ref: where the head is, how it moves, and what to do if something else moved the base."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks_lib.errors import GitError, InputError
from tasks_lib.git.commits.commit import parse_commit, read_first_parents
from tasks_lib.git.commits.commit_messages import TASK
from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.git.runner import Git
from tasks_lib.process.files import read_stamp

QUEUE = "refs/coordinator/queue/"
_REMOTES = "refs/remotes/"
_TRIES = 5
"""How often a read that another process overtook is retried before it is an error."""


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


@dataclass(frozen=True, slots=True)
class _Known:
    queue: str | None
    base: str
    stamps: tuple[object, ...]


class Head:
    """The head of the queue for the branch `target`. Moves are compare-and-swap, so several processes are safe.

    `remote_base` is a full ref (`refs/remotes/origin/main`) that is the base if work lands on a remote.
    `on_foreign_move` is for the one process that may move the queue's ref, which has the run's lock: if the ref is
    found anywhere else, it is restored, because nothing verified that commit; the commit is kept, and the callback is
    called with a sentence about it.
    """

    def __init__(
        self,
        git: Git,
        target: str,
        remote_base: str | None = None,
        on_foreign_move: Callable[[str], None] | None = None,
    ) -> None:
        self._git: Git = git
        self.target: str = target
        self.ref: str = QUEUE + target
        self.base_ref: str = remote_base or f"refs/heads/{target}"
        self._line: dict[str, int] = {}
        # One value, replaced as a whole: what was read, and the stamps of the files before the read.
        self._known: _Known | None = None
        self._writing: threading.RLock = threading.RLock()
        self._on_intrusion: Callable[[str], None] | None = on_foreign_move
        # Where this object last put the ref, or first read it; None while it is absent.
        self._own: str | None = None
        self._is_own_known: bool = False
        self._times_put_back: int = 0

    def base(self) -> str:
        """The commit of the base. Raises InputError if the branch does not exist."""
        return self._read()[1]

    def current(self) -> str:
        """The head: the queue's ref, or the base if there is none. Raises InputError without a base."""
        queue, base = self._read()
        return queue or base

    def last_seen(self) -> str:
        """The head as this object last read or moved it; reads it the first time.

        For uses where it may be slightly out of date: only `advance` decides, and it compares.
        """
        known = self._known
        queue, base = (known.queue, known.base) if known else self._read()
        return queue or base

    def newest_seen(self) -> str:
        """The current head, or the last seen one if it cannot be read: the user may have deleted the base."""
        try:
            return self.current()
        except InputError:
            return self.last_seen()

    def last_seen_base(self) -> str:
        """The base as this object last read it; reads it the first time."""
        known = self._known
        return known.base if known else self._read()[1]

    def is_as_seen(self, base: str) -> bool:
        """Whether nothing has moved since the last read or move here, with the base at `base`; does not run git."""
        known = self._known
        return known is not None and known.base == base and self._stamp() == known.stamps

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
        is_moved = self._swap(new, old)
        if not is_moved:
            queue, base = self._read()
            is_moved = queue is None and base == old and self._swap(new, "0" * len(new))
        if is_moved:
            with self._writing:
                if known := self._known:
                    stamps = (read_stamp(self._files[0], follows_links=True), *known.stamps[1:])
                    self._known = _Known(new, known.base, stamps)
        return is_moved

    def hold(self, commit: str) -> bool:
        """Set the head to `commit`, a base that has since moved, so that work lands on it and is published later.

        False if the queue's ref already exists, which is then the head.
        """
        with self._writing:
            queue, _ = self._read()
            return queue is None and self._swap(commit, "0" * len(commit))

    def is_pending(self) -> bool:
        """Whether the head has verified work that the base has not."""
        queue, base = self._read()
        return queue is not None and queue != base and not is_ancestor(self._git, queue, base)

    def is_published(self) -> bool:
        """Whether the queue's ref exists although all of it is published; False if the base is gone."""
        return self._find_published() is not None

    def _find_published(self) -> str | None:
        try:
            queue, base = self._read()
        except InputError:
            return None
        return queue if queue is not None and (queue == base or is_ancestor(self._git, queue, base)) else None

    def finish(self) -> None:
        """Delete the queue's ref if all of it is published; it stays if it moves meanwhile, or if the base is gone."""
        if (queue := self._find_published()) is not None:
            with self._writing:
                deleted = self._git.run("update-ref", "-d", self.ref, queue, accept=(0, 1, 128))
                self._own = None if deleted.status == 0 else self._own

    def reconcile(self, known_base: str | None) -> Reconciled:
        """Compare the head with the base, and follow the base if no unpublished work is in between.

        `known_base` is the base as last seen, None at the start. Raises InputError without a base, and GitError if
        another process keeps moving the queue's ref.
        """
        for _ in range(_TRIES):
            queue, base = self._read_if_changed()
            if known_base and known_base != base and not self.contains(known_base, base):
                return Rewritten(base, known_base)
            found = self._compare(queue, base, known_base)
            if not isinstance(found, FollowedBase) or queue is None or self._swap(base, queue):
                return found
        raise GitError(("update-ref", self.ref), 1, "another process keeps moving it; is a second coordinator running?")

    def _compare(self, queue: str | None, base: str, known_base: str | None) -> Reconciled:
        if queue is None:
            return Unchanged(base, base) if known_base == base else FollowedBase(base)
        if self.contains(base, queue):
            return Unchanged(queue, base)
        if self.contains(queue, base):
            return FollowedBase(base)
        commits = self._git.text("rev-list", "--first-parent", "--reverse", queue, f"^{base}").split()
        # A commit that coordinator did not create was the base once, or the head would not be built on it.
        foreign = [commit for commit in commits if TASK not in self.read_trailers(commit)]
        return Rewritten(base, foreign[-1]) if foreign else NeedsRebuild(base, queue, tuple(commits))

    def read_trailers(self, commit: str) -> dict[str, str]:
        """The trailers of one of coordinator's commits, by name; {} for any other commit."""
        return parse_commit(commit, self._git.run("cat-file", "commit", commit).stdout).trailers

    def find_landed(self, head: str, limit: int) -> Mapping[str, str]:
        """The id of each node that the last `limit` first-parent commits of `head` completed, with that commit."""
        landed: dict[str, str] = {}
        for commit in read_first_parents(self._git, head, limit):
            # Most commits are not coordinator's, so check the subject first.
            if commit.subject.startswith(("Merge ", "Check ")) and (task_id := commit.trailers.get(TASK)):
                landed.setdefault(task_id, commit.id)
        return landed

    def _read_if_changed(self) -> tuple[str | None, str]:
        """As `_read`, but run git only if a file of a ref changed: git replaces such files, never edits them."""
        known = self._known
        if known and self._stamp() == known.stamps:
            return known.queue, known.base
        return self._read()

    def _read(self) -> tuple[str | None, str]:
        """The commits of the queue's ref (None if absent) and the base, read at once."""
        with self._writing:
            for _ in range(_TRIES):
                stamps = self._stamp()
                listed = self._git.text("for-each-ref", "--format=%(objectname) %(refname)", self.ref, self.base_ref)
                found = {name: oid for oid, _, name in (line.partition(" ") for line in listed.splitlines())}
                if self.base_ref not in found:
                    raise InputError([_describe_missing(self.target, self.base_ref)])
                if self._is_own(found.get(self.ref)):
                    self._known = _Known(found.get(self.ref), found[self.base_ref], stamps)
                    return self._known.queue, self._known.base
                self._put_back(found.get(self.ref))
            raise GitError(("update-ref", self.ref), 1, "another process keeps moving it; is it an agent?")

    def _is_own(self, queue: str | None) -> bool:
        if self._on_intrusion is None or not self._is_own_known:
            self._own, self._is_own_known = queue, True
        return queue == self._own

    def _put_back(self, found: str | None) -> None:
        """Undo a move to `found` that something else made; the commit is kept at a ref of its own."""
        kept = keep_commit(self._git, f"queue-{self.target}", found) if found and self._git.resolve(found) else ""
        before = found or "0" * len(self._own or "")
        words = (self.ref, self._own, before) if self._own else ("-d", self.ref, before)
        done = self._git.run("update-ref", "--no-deref", *words, accept=(0, 1, 128))
        self._times_put_back += 1
        if done.status == 0 and self._on_intrusion:
            what = (
                f"moved by something else to an unverified commit {found[:12]}"
                if found
                else "deleted by something else"
            )
            where = f" (kept at {kept})" if kept else ""
            self._on_intrusion(f"{self.ref} was {what}{where}; restored.")

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        common = self._git.directory / self._git.text("rev-parse", "--git-common-dir")
        return common / self.ref, common / self.base_ref, common / "packed-refs"

    def _stamp(self) -> tuple[object, ...]:
        return tuple(read_stamp(path, follows_links=True) for path in self._files)

    def _swap(self, new: str, old: str) -> bool:
        """Set the ref from `old` (zeros: absent) to `new`; False if it was not at `old`."""
        command = ("update-ref", "-m", "coordinator: move the head", self.ref, new, old)
        with self._writing:
            for _ in range(_TRIES):
                before = self._times_put_back
                result = self._git.run(*command, accept=(0, 1, 128))
                if result.status == 0:
                    self._own, self._is_own_known = new, True
                    return True
                if (self._read()[0] or "0" * len(old)) != old:
                    return False
                if self._times_put_back == before:
                    # The ref is at `old` and was not just restored, so the update failed for another reason.
                    raise GitError(command, result.status, result.stderr)
        raise GitError(command, 1, "another process keeps moving it; is it an agent?")


def _describe_missing(target: str, ref: str) -> str:
    if ref.startswith(_REMOTES):
        remote = ref.removeprefix(_REMOTES).removesuffix(f"/{target}")
        return (
            f"{remote}/{target} has not been fetched yet ({ref}). `git fetch {remote}` fetches it, and so does a run; "
            "or set `target` in coordinator.yaml to another branch."
        )
    return (
        f'The target branch "{target}" does not exist ({ref}). '
        "Create it, or set `target` in coordinator.yaml to another."
    )
