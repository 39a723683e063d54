"""Says which uncommitted paths are an agent's: not what git itself wrote so, nor what `setup` left as it is."""

import hashlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import BranchState, read_state
from tasks_lib.git.inspection.worktree_content import is_as_written
from tasks_lib.node.attempt_context import AttemptContext

_MOST = 500
"""So many paths of `setup` are remembered, and so many asked about: more is a folder that should be ignored."""
_READ_BYTES = 1 << 20


def read_content_marks(context: AttemptContext) -> dict[str, str]:
    """The uncommitted paths of the worktree, each with a mark of what is there."""
    with suppress(GitError):  # A worktree that an agent left broken is looked at, and repaired, before the turn.
        return {path: _mark(context.worktree.path / path) for path in read_state(context.worktree.git).dirty[:_MOST]}
    return {}


def note_setup(context: AttemptContext, before: dict[str, str]) -> None:
    """Remember what `setup` has left uncommitted since `before`."""
    now = read_content_marks(context)
    made = {path: mark for path, mark in now.items() if before.get(path) != mark}
    if made:
        known = {**_read(context), **made}
        marks = tuple(f"{mark} {path}" for path, mark in sorted(known.items()))
        context.note(findings=context.record.findings.with_prepared(marks))


def list_agent_changes(context: AttemptContext, state: BranchState) -> tuple[str, ...]:
    """Those of the uncommitted paths of `state` that its agent is asked about."""
    known, git = _read(context), context.run.git.isolation.checking_out(context.worktree)
    own: list[str] = []
    for path in state.dirty[:_MOST]:
        if known.get(path) == _mark(context.worktree.path / path):
            continue
        # An agent's own git writes files by the person's settings, ours by those of the commit.
        entry = context.run.git.objects.find_entry(state.commit, path) if state.commit else None
        writers = (git, context.worktree.git) if entry else ()
        if not entry or not any(is_as_written(one, context.worktree, entry, path) for one in writers):
            own.append(path)
    return (*own, *state.dirty[_MOST:])


def list_excused(state: BranchState, own: Collection[str]) -> tuple[str, ...]:
    """The uncommitted paths of `state` that are not among `own`."""
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
