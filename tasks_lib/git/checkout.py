"""Fast-forwards a person's checkout as git accepts it, and puts it back where git stopped halfway."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tasks_lib.git.merging import is_ancestor
from tasks_lib.git.records import write_atomically
from tasks_lib.git.runner import Git

_REASON_CHARS = 600
_SHOWN_PATHS = 3
IN_PROGRESS = {
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "sequencer/todo": "a row of cherry-picks or reverts",
    "rebase-merge": "a rebase",
    "rebase-apply/applying": "`git am`",
    "rebase-apply": "a rebase",
    "BISECT_LOG": "a bisect",
}
"""Files in a worktree's git directory that tell of something a person is in the middle of."""
# A ref that another command of git holds at this moment is waited for: git writes the files before it moves the branch.
_CONFIGURATION = ("-c", "core.filesRefLockTimeout=3000")
_FAST_FORWARD = (
    *("merge", "--ff-only", "--no-overwrite-ignore", "--no-autostash", "--no-squash", "--no-stat"),
    *("--no-verify-signatures", "--no-progress"),
)
_UNMARKED = {"COORDINATOR_REPOSITORY": ""}
"""After a kill of ours git comes to its end by itself: the next run would end it as a leftover, amid its files."""
_EVERY_STATUS = range(-64, 256)


class _Change(NamedTuple):
    """A path that differs; the old mode is "000000" where it comes, the new one and its blob where it goes."""

    path: str
    old_mode: str
    new_mode: str
    new_blob: str


@dataclass(frozen=True, slots=True)
class _Before:
    """How the files that a fast-forward touches, the index and ORIG_HEAD looked before it."""

    changes: tuple[_Change, ...]
    stamps: dict[str, tuple[int, ...] | None]
    index: tuple[int, ...] | None
    original: bytes | None


def fast_forward(path: Path, common_dir: Path, ref: str, base: str, head: str) -> str:
    """Move the checkout at `path`, which has the branch `ref` at `base`, to `head`; why it waits, or "" if it moved.

    `common_dir` is the git directory of the repository. Where it waits, no file, nothing staged and no ref is another
    than before. Raises GitError if git does not work.
    """
    git = Git(path)
    if not path.is_dir() or _find_common_dir(git) != common_dir:
        return f"its checkout {path} is not there any more; `git worktree prune` forgets it."
    # The list may be old by now, and `merge` moves whatever branch is checked out when it runs.
    if git.follow("HEAD") != ref:
        return f"the checkout {path} switched to another branch at this moment."
    git_dir = Path(git.text("rev-parse", "--absolute-git-dir"))
    if reason := _find_hindrance(path, git_dir, common_dir, ref):
        return reason
    before = _look(git, git_dir, base, head)
    if reason := _find_loss(git, path, before.changes, head):
        return reason
    result = git.run(*_CONFIGURATION, *_FAST_FORWARD, head, accept=_EVERY_STATUS, environment=_UNMARKED)
    if result.status != 0:
        reason = f"git refused in {path}: {read_reason(result.stderr)}"
        left = _put_back(git, git_dir, before, base, head) if git.resolve(ref) != head else ""
        return f"{reason} {left}" if left else reason
    if git.resolve(ref) != head and not is_ancestor(git, head, ref):
        return f"the checkout {path} switched to another branch at this moment."
    return ""


def read_reason(stderr: str) -> str:
    """Git's own first words: up to its advice, on one line."""
    kept: list[str] = []
    for line in stderr.splitlines():
        words = line.strip()
        if words.startswith(("Please ", "Aborting", "hint:", "Another git process")):
            break
        kept.append(words.removeprefix("error: ").removeprefix("fatal: "))
    said = " ".join(word for word in kept if word) or stderr.strip() or "it did not say why"
    return said if len(said) <= _REASON_CHARS else said[: _REASON_CHARS - 1] + "…"


def _find_common_dir(git: Git) -> Path | None:
    found = git.run("rev-parse", "--path-format=absolute", "--git-common-dir", accept=(0, 128))
    return Path(found.text).resolve() if found.status == 0 else None


def _find_hindrance(path: Path, git_dir: Path, common_dir: Path, ref: str) -> str:
    for name, what in IN_PROGRESS.items():
        if (git_dir / name).exists():
            return f"the checkout {path} is in the middle of {what}; finish or abort it."
    for lock in (git_dir / "HEAD.lock", common_dir / f"{ref}.lock"):
        if lock.exists():
            return f"{lock} is there: a command of git is at work, or one was killed; then delete that file."
    return ""


# What a fast-forward would touch.


def _look(git: Git, git_dir: Path, base: str, head: str) -> _Before:
    fields = git.text("diff-tree", "-r", "-z", "--no-renames", base, head).split("\0")
    changes: list[_Change] = []
    for meta, name in zip(fields[::2], fields[1::2], strict=False):
        old_mode, new_mode, _, new_blob, _ = meta.removeprefix(":").split(" ")
        changes.append(_Change(name, old_mode, new_mode, new_blob))
    stamps = {change.path: _stamp(git.directory / change.path) for change in changes}
    return _Before(tuple(changes), stamps, _stamp(git_dir / "index"), _read(git_dir / "ORIG_HEAD"))


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _find_loss(git: Git, path: Path, changes: Sequence[_Change], head: str) -> str:
    """What git itself would not refuse: writing a file again that a person deleted, and a filter that fails midway."""
    written = [change.path for change in changes if change.new_mode != "000000"]
    missing = {c.path for c in changes if "000000" not in (c.old_mode, c.new_mode) and not _exists(path / c.path)}
    if missing:
        found = git.run("diff-files", "--name-only", "-z", "--diff-filter=D").text.split("\0")
        if deleted := sorted(missing & set(found)):
            return f"{_name(deleted)} was deleted in {path} and would be written again; commit that, or put it back."
    for name in _list_filtered(git, written):
        tried = git.run("cat-file", "--filters", f"{head}:{name}", accept=_EVERY_STATUS)
        if tried.status != 0:
            return f"a filter of {path} fails for {name}: {read_reason(tried.stderr)}"
    return ""


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _name(paths: Sequence[str]) -> str:
    more = len(paths) - _SHOWN_PATHS
    return ", ".join(paths[:_SHOWN_PATHS]) + (f" and {more} more" if more > 0 else "")


def _list_filtered(git: Git, paths: Sequence[str]) -> list[str]:
    """The paths whose content goes through a program that the person has configured."""
    if not git.succeeds("config", "--get-regexp", r"^filter\..*\.(smudge|process)$"):
        return []
    asked = os.fsencode("".join(f"{name}\0" for name in paths))
    fields = git.run("check-attr", "--stdin", "-z", "filter", stdin=asked).text.split("\0")
    return [
        name for name, value in zip(fields[::3], fields[2::3], strict=False) if value not in ("unspecified", "unset")
    ]


# Halfway.


def _put_back(git: Git, git_dir: Path, before: _Before, base: str, head: str) -> str:
    """Make the checkout what it was; what could not be put back is said.

    Git looks before it writes, but it can fail after that: a folder that cannot be written, a filter, a ref that is
    locked, a signal.
    """
    if before.original != _read(git_dir / "ORIG_HEAD"):
        _write_original(git_dir / "ORIG_HEAD", before.original)
    if _stamp(git_dir / "index") != before.index:
        # All files and the index were written, and the branch did not move. Where they were not this does nothing.
        git.run("read-tree", "-m", "-u", head, base, accept=_EVERY_STATUS)
    changed = {name for name, stamp in before.stamps.items() if _stamp(git.directory / name) != stamp}
    return _restore(git, [change for change in before.changes if change.path in changed])


def _write_original(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
    else:
        write_atomically(path, data)


def _restore(git: Git, changes: Sequence[_Change]) -> str:
    """Take back what git wrote at the paths of `changes`, where the index still is what it was."""
    if not changes:
        return ""
    differs = set(git.run("diff-files", "--name-only", "-z").text.split("\0"))
    for change in changes:
        place = git.directory / change.path
        if change.old_mode == "000000" and _is_written(git, place, change):
            place.unlink()
            _remove_empty_parents(place, git.directory)
    lost = [
        change.path
        for change in changes
        if change.path in differs
        and (not _exists(git.directory / change.path) or _is_written(git, git.directory / change.path, change))
    ]
    if lost:
        paths = os.fsencode("".join(f"{name}\0" for name in lost))
        git.run("checkout-index", "--force", "-u", "-z", "--stdin", stdin=paths, accept=_EVERY_STATUS)
    left = [name for name in lost if not _exists(git.directory / name)]
    return f"{_name(left)} could not be written back; `git checkout -- PATH` does it." if left else ""


def _is_written(git: Git, place: Path, change: _Change) -> bool:
    """Whether at `place` is what the fast-forward writes there."""
    if place.is_symlink():
        return (
            change.new_mode == "120000"
            and os.fsencode(place.readlink()) == git.run("cat-file", "blob", change.new_blob).stdout
        )
    if not place.is_file() or change.new_mode == "120000":
        return False
    found = git.run("hash-object", f"--path={change.path}", "--", str(place), accept=_EVERY_STATUS)
    return found.text == change.new_blob


def _remove_empty_parents(path: Path, top: Path) -> None:
    for parent in path.parents:
        if parent == top:
            return
        try:
            parent.rmdir()
        except OSError:
            return
