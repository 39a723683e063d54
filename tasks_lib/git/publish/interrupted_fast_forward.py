"""Restores a checkout after an incomplete fast-forward: at once if git failed, in the next run after a kill."""

import json
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tasks_lib.git.repository import STATE_DIR
from tasks_lib.git.repository_lock import HeldRunLock
from tasks_lib.git.runner import Git
from tasks_lib.git.worktrees.relinking import Relocation
from tasks_lib.naming import SOME
from tasks_lib.process.captured_output import list_running
from tasks_lib.process.files import Stamp, read_stamp, remove_empty_parents, write_atomically
from tasks_lib.process.lock_holders import DirectoryTree, find_git
from tasks_lib.text import list_some

MOVING_NAME = "moving.json"
EVERY_STATUS = range(-64, 256)
_LOCKS = ("index.lock", "HEAD.lock", "ORIG_HEAD.lock")


@dataclass(frozen=True, slots=True)
class Move:
    """A branch `ref` that git is moving from the commit `base` to `head`.

    `path` is the checkout that moves with it, "" if there is none, `git_dir` its git directory, and `original` its
    ORIG_HEAD, None if it had none.
    """

    ref: str
    base: str
    head: str
    git_dir: str
    path: str = ""
    original: str | None = None

    @property
    def place(self) -> str:
        """What messages name as moved: the checkout, or the branch if it has none."""
        return self.path or self.ref


@contextmanager
def remembered(common_dir: Path, move: Move) -> Generator[None]:
    """Record `move` in a file while the block runs, so that it can be found after a kill."""
    record = common_dir / STATE_DIR / MOVING_NAME
    record.parent.mkdir(exist_ok=True)
    write_atomically(record, json.dumps(asdict(move)).encode() + b"\n")
    try:
        yield
    finally:
        record.unlink(missing_ok=True)


def restore_interrupted(common_dir: Path, held: HeldRunLock) -> str:
    """As `repair_move`, for a move that an earlier run began. Call when its processes have ended."""
    return repair_move(common_dir)


def repair_move(common_dir: Path) -> str:
    """Restore the checkout that a run was moving when it was killed; return a line on it, "" if there was none.

    Removes locks that git left there, and restores files that it wrote or began to write to what the index records; a
    file with any other content is the user's and stays. Changes nothing while git is running there. For a move that an
    earlier run may have begun, call `restore_interrupted`. Raises GitError if git fails.
    """
    record = common_dir / STATE_DIR / MOVING_NAME
    move = _read_move(record)
    if move is None:
        record.unlink(missing_ok=True)
        return ""
    where = move.path or move.git_dir
    places = [DirectoryTree(Path(where)), DirectoryTree(Path(move.git_dir))]
    if busy := find_git(places, list_running()):
        return f"{where}: git is running there ({busy}); the checkout is repaired when that ends."
    began = record.stat().st_mtime
    locks = [Path(move.git_dir, name) for name in _LOCKS] + [common_dir / f"{move.ref}.lock"]
    for lock in locks:
        if lock.exists() and lock.stat().st_mtime >= began:
            lock.unlink(missing_ok=True)
    left = _restore_interrupted_checkout(move) if move.path and Path(move.path).is_dir() else ""
    record.unlink(missing_ok=True)
    return f"{move.place}: {describe_restored(move)}{left and ' '}{left}"


def describe_restored(move: Move) -> str:
    """What is reported about an interrupted move that was restored."""
    return f"repaired; a run was killed while git moved it to {move.head[:10]}."


def read_interrupted(common_dir: Path) -> Move | None:
    """The move that a kill interrupted, or None."""
    return _read_move(common_dir / STATE_DIR / MOVING_NAME)


def update_move_paths(common_dir: Path, relocation: Relocation) -> None:
    """Update the paths of an interrupted move after this repository was moved or copied.

    In a copy, a checkout outside the repository belongs to the original and is left out.
    """
    record = common_dir / STATE_DIR / MOVING_NAME
    move = _read_move(record)
    if move is None:
        return
    git_dir = relocation.follow(Path(move.git_dir), common_dir) or Path(move.git_dir)
    path = relocation.follow(Path(move.path), common_dir) if move.path else None
    if move.path and path is None and not relocation.is_copy:
        path = Path(move.path)
    stamp = record.stat()
    moved = replace(move, git_dir=str(git_dir), path=str(path or ""))
    write_atomically(record, json.dumps(asdict(moved)).encode() + b"\n")
    # The record's modification time distinguishes the locks of this move from older ones.
    os.utime(record, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def has_interrupted_move(common_dir: Path) -> bool:
    """Whether an interrupted move is still to be restored."""
    return (common_dir / STATE_DIR / MOVING_NAME).exists()


def _read_move(record: Path) -> Move | None:
    try:
        return Move(**json.loads(record.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _restore_interrupted_checkout(move: Move) -> str:
    # With an explicit git directory: if the repository was moved, a linked worktree elsewhere does not find it.
    git_dir = Path(move.git_dir)
    git = Git(Path(move.path), git_dir)
    # If the branch has moved, the move is complete: git moves it last. If it is elsewhere, the user moved it since.
    if git.resolve(move.ref) != move.base or git.follow("HEAD") != move.ref:
        return ""
    original = None if move.original is None else move.original.encode()
    if _read(git_dir / "ORIG_HEAD") != original:
        _write_original(git_dir / "ORIG_HEAD", original)
    # In a copy no file matches the stat data in the index, so `read-tree` would take each for changed.
    git.run("update-index", "-q", "--refresh", accept=EVERY_STATUS)
    git.run("read-tree", "-m", "-u", move.head, move.base, accept=EVERY_STATUS)
    return _restore(git, list_changes(git, move.base, move.head))


class Change(NamedTuple):
    """A path that differs: `old_mode` is "000000" if it is added, `new_mode` and `new_blob` zeros if it is deleted."""

    path: str
    old_mode: str
    new_mode: str
    new_blob: str


@dataclass(frozen=True, slots=True)
class Before:
    """The files that a fast-forward touches, the index and ORIG_HEAD, as they were before it."""

    changes: tuple[Change, ...]
    stamps: dict[str, Stamp | None]
    index: Stamp | None
    original: bytes | None


def list_changes(git: Git, base: str, head: str) -> tuple[Change, ...]:
    """The paths that differ between two commits."""
    fields = git.text("diff-tree", "-r", "-z", "--no-renames", base, head).split("\0")
    changes: list[Change] = []
    for meta, name in zip(fields[::2], fields[1::2], strict=False):
        old_mode, new_mode, _, new_blob, _ = meta.removeprefix(":").split(" ")
        changes.append(Change(name, old_mode, new_mode, new_blob))
    return tuple(changes)


def record_before(git: Git, git_dir: Path, base: str, head: str) -> Before:
    """Record what a fast-forward of the checkout from `base` to `head` would touch, as it is now."""
    changes = list_changes(git, base, head)
    stamps = {change.path: read_stamp(git.directory / change.path) for change in changes}
    return Before(changes, stamps, read_stamp(git_dir / "index"), _read(git_dir / "ORIG_HEAD"))


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def restore_checkout(git: Git, git_dir: Path, before: Before, base: str, head: str) -> str:
    """Restore the checkout after a failed fast-forward; return a sentence on what could not be restored, or "".

    Git checks before it writes, but can still fail after that: on a folder that is not writable, a filter, a locked
    ref, or a signal.
    """
    if before.original != _read(git_dir / "ORIG_HEAD"):
        _write_original(git_dir / "ORIG_HEAD", before.original)
    if read_stamp(git_dir / "index") != before.index:
        # All files and the index were written, but the branch did not move. Otherwise this does nothing.
        git.run("read-tree", "-m", "-u", head, base, accept=EVERY_STATUS)
    changed = {name for name, stamp in before.stamps.items() if read_stamp(git.directory / name) != stamp}
    return _restore(git, [change for change in before.changes if change.path in changed])


def _write_original(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
    else:
        write_atomically(path, data)


def _restore(git: Git, changes: Sequence[Change]) -> str:
    """Undo what git wrote at the paths of `changes`, where the index is still what it was."""
    if not changes:
        return ""
    differs = set(git.run("diff-files", "--name-only", "-z").text.split("\0"))
    for change in changes:
        place = git.directory / change.path
        if change.old_mode == "000000" and _is_written(git, place, change):
            place.unlink()
            remove_empty_parents(place, git.directory)
    lost = [
        change.path
        for change in changes
        if change.path in differs
        and (not exists(git.directory / change.path) or _is_written(git, git.directory / change.path, change))
    ]
    if lost:
        paths = os.fsencode("".join(f"{name}\0" for name in lost))
        git.run("checkout-index", "--force", "-u", "-z", "--stdin", stdin=paths, accept=EVERY_STATUS)
    left = [name for name in lost if not exists(git.directory / name)]
    return f"{list_some(left, SOME)} could not be restored; run `git checkout -- PATH` for each." if left else ""


def _is_written(git: Git, place: Path, change: Change) -> bool:
    """Whether the file at `place` is what the fast-forward writes there, or the beginning of it."""
    if place.is_symlink():
        return (
            change.new_mode == "120000"
            and os.fsencode(place.readlink()) == git.run("cat-file", "blob", change.new_blob).stdout
        )
    if not place.is_file() or change.new_mode == "120000":
        return False
    found = git.run("hash-object", f"--path={change.path}", "--", str(place), accept=EVERY_STATUS)
    return found.text == change.new_blob or _is_begun(git, place, change)


def _is_begun(git: Git, place: Path, change: Change) -> bool:
    asked = ("cat-file", "--filters", f"--path={change.path}", change.new_blob)
    whole = git.run(*asked, accept=EVERY_STATUS)
    return whole.status == 0 and whole.stdout.startswith(place.read_bytes())


def exists(path: Path) -> bool:
    """Whether anything is at `path`, including a broken symbolic link."""
    return os.path.lexists(path)
