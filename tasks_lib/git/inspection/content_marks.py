"""Marks the content of uncommitted paths, so that what `setup` made can be told from an agent's changes."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import read_state
from tasks_lib.git.worktree_admin import Worktree

MOST = 500
"""How many paths of `setup` are recorded, and how many are checked; more are a sign of a folder to be ignored."""
_READ_BYTES = 1 << 20


def read_content_marks(worktree: Worktree) -> dict[str, str]:
    """Return the uncommitted paths of the worktree, each with a digest of its content; at most `MOST`."""
    with suppress(GitError):  # A worktree that an agent left broken is repaired before the turn.
        return {path: mark_content(worktree.path / path) for path in read_state(worktree.git).dirty[:MOST]}
    return {}


def list_made(before: Mapping[str, str], now: Mapping[str, str], known: Mapping[str, str]) -> tuple[str, ...]:
    """Return the marks, as a record has them, of `known` and of what changed between `before` and `now`."""
    made = {path: mark for path, mark in now.items() if before.get(path) != mark}
    return tuple(f"{mark} {path}" for path, mark in sorted({**known, **made}.items())) if made else ()


def mark_content(path: Path) -> str:
    """Return a mark of the content of `path`, which changes with it."""
    try:
        if path.is_symlink():
            return f"link-{hashlib.sha256(bytes(path.readlink())).hexdigest()[:20]}"
        found = path.lstat()
        if not path.is_file():
            return "folder"
        if found.st_size > _READ_BYTES:
            return f"large-{found.st_size}-{found.st_mtime_ns}"
        return f"{found.st_mode & 0o111:o}-{hashlib.sha256(path.read_bytes()).hexdigest()[:20]}"
    except OSError:
        return "gone"
