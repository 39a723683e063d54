"""Reads the refs of the queue and of the base at once, and moves the queue's ref only by compare-and-swap."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks_lib.errors import GitError, InputError
from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.git.runner import Git
from tasks_lib.process.files import read_regular, read_stamp

QUEUE = "refs/coordinator/queue/"
TRIES = 5
"""How often a read that another process overtook is retried before it is an error."""
_REMOTES = "refs/remotes/"
_ID_LINE_BYTES = 65
"""The longest id, of SHA-256, and the line end."""


@dataclass(frozen=True, slots=True)
class Position:
    """The commits of the queue's ref, None if it is absent, and of the base."""

    queue: str | None
    base: str

    @property
    def head(self) -> str:
        return self.queue or self.base


@dataclass(frozen=True, slots=True)
class _Known:
    position: Position
    stamps: tuple[object, ...]


class QueueRefs:
    """The refs `queue_ref` and `base_ref` for the branch `target`. Several processes may move the queue's ref.

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
        self.queue_ref: str = QUEUE + target
        self.base_ref: str = remote_base or f"refs/heads/{target}"
        # One value, replaced as a whole: what was read, and the stamps of the files before the read.
        self._known: _Known | None = None
        self._writing: threading.RLock = threading.RLock()
        self._on_foreign_move: Callable[[str], None] | None = on_foreign_move
        # Where this object last put the ref, or first read it; None while it is absent.
        self._own: str | None = None
        self._is_own_known: bool = False
        self._times_put_back: int = 0

    def last_read(self) -> Position:
        """What this object last read or moved to; reads it the first time."""
        known = self._known
        return known.position if known else self.read()

    def is_as_read(self, base: str) -> bool:
        """Whether nothing has moved since the last read or move here, with the base at `base`; does not run git."""
        known = self._known
        return known is not None and known.position.base == base and self._stamp() == known.stamps

    def read_if_changed(self) -> Position:
        """As `read`, but run git only if a file of a ref changed: git replaces such files, never edits them."""
        known = self._known
        if known and self._stamp() == known.stamps:
            return known.position
        return self.read()

    def read(self) -> Position:
        """Read both refs at once. Raises InputError if the base does not exist."""
        with self._writing:
            for _ in range(TRIES):
                stamps = self._stamp()
                refs = (self.queue_ref, self.base_ref)
                listed = self._git.text("for-each-ref", "--format=%(objectname) %(refname) %(symref)", *refs)
                rows = [line.split(" ") for line in listed.splitlines()]
                found = {name: oid for oid, name, _ in rows}
                if self.base_ref not in found:
                    raise InputError([_describe_missing(self.target, self.base_ref)])
                position = Position(found.get(self.queue_ref), found[self.base_ref])
                if self._is_own(position.queue):
                    # What a symbolic ref points to can move without a change to these files.
                    is_direct = not any(symref for _, _, symref in rows)
                    self._known = _Known(position, stamps if is_direct else ())
                    return position
                self._put_back(position.queue)
            raise GitError(("update-ref", self.queue_ref), 1, "another process keeps moving it; is it an agent?")

    def move(self, old: str, new: str) -> bool:
        """Move the head from `old` to `new`; False if it was no longer at `old`."""
        if (self._is_absent(old) and self.swap(None, new)) or self.swap(old, new):
            return True
        position = self.read()
        return position.queue is None and position.base == old and self.swap(None, new)

    def _is_absent(self, base: str) -> bool:
        """Whether there was no queue's ref and nothing has moved since; git then refuses only if one was created."""
        known = self._known
        return known is not None and known.position.queue is None and self.is_as_read(base)

    def create(self, commit: str) -> bool:
        """Create the queue's ref at `commit`; False if it already exists."""
        with self._writing:
            return self.read().queue is None and self.swap(None, commit)

    def delete(self, queue: str) -> None:
        """Delete the queue's ref if it is at `queue`."""
        with self._writing:
            deleted = self._git.run("update-ref", "-d", self.queue_ref, queue, accept=(0, 1, 128))
            if deleted.status == 0:
                self._own = None
                self._remember(None)

    def swap(self, old: str | None, new: str) -> bool:
        """Set the queue's ref from `old` (None: absent) to `new`; False if it was not at `old`.

        Raises GitError if git cannot move it for another reason.
        """
        command = ("update-ref", "-m", "coordinator: move the head", self.queue_ref, new, old or "0" * len(new))
        with self._writing:
            for _ in range(TRIES):
                before = self._times_put_back
                result = self._git.run(*command, accept=(0, 1, 128))
                if result.status == 0:
                    self._own, self._is_own_known = new, True
                    self._remember(new)
                    return True
                if self.read().queue != old:
                    return False
                if self._times_put_back == before:
                    # The ref is at `old` and was not just restored, so the update failed for another reason.
                    raise GitError(command, result.status, result.stderr)
        raise GitError(command, 1, "another process keeps moving it; is it an agent?")

    def _remember(self, queue: str | None) -> None:
        """Note that this object has just moved the queue's ref to `queue`, so that it need not be read again.

        Only if the file says so after its stamp was taken: something else may have moved the ref since.
        """
        if known := self._known:
            stamps = (read_stamp(self._files[0], follows_links=True), *known.stamps[1:])
            is_there = _read_loose(self._files[0]) == queue
            self._known = _Known(Position(queue, known.position.base), stamps if is_there else ())

    def _is_own(self, queue: str | None) -> bool:
        if self._on_foreign_move is None or not self._is_own_known:
            self._own, self._is_own_known = queue, True
        return queue == self._own

    def _put_back(self, found: str | None) -> None:
        """Undo a move to `found` that something else made; the commit is kept at a ref of its own."""
        kept = keep_commit(self._git, f"queue-{self.target}", found) if found and self._git.resolve(found) else ""
        before = found or "0" * len(self._own or "")
        words = (self.queue_ref, self._own, before) if self._own else ("-d", self.queue_ref, before)
        done = self._git.run("update-ref", "--no-deref", *words, accept=(0, 1, 128))
        self._times_put_back += 1
        if done.status == 0 and self._on_foreign_move:
            what = (
                f"moved by something else to an unverified commit {found[:12]}"
                if found
                else "deleted by something else"
            )
            where = f" (kept at {kept})" if kept else ""
            self._on_foreign_move(f"{self.queue_ref} was {what}{where}; restored.")

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        common = self._git.layout.common_dir
        return common / self.queue_ref, common / self.base_ref, common / "packed-refs"

    def _stamp(self) -> tuple[object, ...]:
        return tuple(read_stamp(path, follows_links=True) for path in self._files)


def _read_loose(file: Path) -> str | None:
    """Return the object id in a ref's file, None if the file does not exist, "" if it contains anything else."""
    try:
        return read_regular(file, _ID_LINE_BYTES).decode("ascii").rstrip("\n")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return ""


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
