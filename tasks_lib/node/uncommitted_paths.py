"""Says which uncommitted paths are an agent's: not what git itself wrote so, nor what `setup` left as it is."""

import hashlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.git.commits.branch_state import BranchState, read_state
from tasks_lib.git.inspection.worktree_content import is_as_written
from tasks_lib.node.attempt_context import Work

_MOST = 500
"""So many paths of `setup` are remembered, and so many asked about: more is a folder that should be ignored."""
_READ_BYTES = 1 << 20


def read_content_marks(work: Work) -> dict[str, str]:
    """The uncommitted paths of the worktree, each with a mark of what is there."""
    with suppress(GitError):  # A worktree that an agent left broken is looked at, and repaired, before the turn.
        return {path: _mark(work.worktree.path / path) for path in read_state(work.worktree.git).dirty[:_MOST]}
    return {}


def note_setup(work: Work, before: dict[str, str]) -> None:
    """Remember what `setup` has left uncommitted since `before`."""
    now = read_content_marks(work)
    made = {path: mark for path, mark in now.items() if before.get(path) != mark}
    if made:
        known = {**_read(work), **made}
        marks = tuple(f"{mark} {path}" for path, mark in sorted(known.items()))
        work.note(findings=work.record.findings.with_prepared(marks))


def list_agent_changes(work: Work, state: BranchState) -> tuple[str, ...]:
    """Those of the uncommitted paths of `state` that its agent is asked about."""
    known, git = _read(work), work.run.git.isolation.checking_out(work.worktree)
    own: list[str] = []
    for path in state.dirty[:_MOST]:
        if known.get(path) == _mark(work.worktree.path / path):
            continue
        # An agent's own git writes files by the person's settings, ours by those of the commit.
        entry = work.run.git.objects.find_entry(state.commit, path) if state.commit else None
        writers = (git, work.worktree.git) if entry else ()
        if not entry or not any(is_as_written(one, work.worktree, entry, path) for one in writers):
            own.append(path)
    return (*own, *state.dirty[_MOST:])


def list_excused(state: BranchState, own: Collection[str]) -> tuple[str, ...]:
    """The uncommitted paths of `state` that are not among `own`."""
    return tuple(path for path in state.dirty if path not in own)


def _read(work: Work) -> dict[str, str]:
    pairs = (line.partition(" ") for line in work.record.findings.prepared)
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
