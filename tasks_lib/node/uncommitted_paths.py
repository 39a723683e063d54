"""Tells an agent's uncommitted changes from those that git itself or `setup` made."""

import hashlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import BranchState, read_state
from tasks_lib.git.inspection.worktree_content import is_as_written
from tasks_lib.node.attempt_context import AttemptContext

_MOST = 500
"""How many paths of `setup` are recorded, and how many are checked; more are a sign of a folder to be ignored."""
_READ_BYTES = 1 << 20


def read_content_marks(context: AttemptContext) -> dict[str, str]:
    """Return the uncommitted paths of the worktree, each with a digest of its content; at most `_MOST`."""
    with suppress(GitError):  # A worktree that an agent left broken is repaired before the turn.
        return {path: _mark(context.worktree.path / path) for path in read_state(context.worktree.git).dirty[:_MOST]}
    return {}


def note_setup(context: AttemptContext, before: dict[str, str]) -> None:
    """Record the uncommitted paths that `setup` has made or changed since `before`."""
    now = read_content_marks(context)
    made = {path: mark for path, mark in now.items() if before.get(path) != mark}
    if made:
        known = {**_read(context), **made}
        marks = tuple(f"{mark} {path}" for path, mark in sorted(known.items()))
        context.note(findings=context.record.findings.with_prepared(marks))


def list_agent_changes(context: AttemptContext, state: BranchState) -> tuple[str, ...]:
    """Return the uncommitted paths of `state` that the agent has to commit or remove."""
    known, git = _read(context), context.run.git.isolation.checking_out(context.worktree)
    own: list[str] = []
    for path in state.dirty[:_MOST]:
        if known.get(path) == _mark(context.worktree.path / path):
            continue
        # The agent's git checks out files with the user's settings, coordinator's git with those of the commit.
        entry = context.run.git.objects.find_entry(state.commit, path) if state.commit else None
        writers = (git, context.worktree.git) if entry else ()
        if not entry or not any(is_as_written(one, context.worktree, entry, path) for one in writers):
            own.append(path)
    return (*own, *state.dirty[_MOST:])


def list_excused(state: BranchState, own: Collection[str]) -> tuple[str, ...]:
    """Return the uncommitted paths of `state` that are not in `own`."""
    return tuple(path for path in state.dirty if path not in own)


def _read(context: AttemptContext) -> dict[str, str]:
    pairs = (line.partition(" ") for line in context.record.findings.prepared)
    return {path: mark for mark, _, path in pairs}


def _mark(path: Path) -> str:
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
