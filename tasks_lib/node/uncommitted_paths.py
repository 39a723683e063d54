"""Tells an agent's uncommitted changes from those that git itself or `setup` made."""

from collections.abc import Collection

from tasks_lib.git.commits.branch_state import BranchState
from tasks_lib.git.inspection.content_marks import MOST, list_made, mark_content, read_content_marks
from tasks_lib.git.inspection.worktree_content import is_as_written
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.session.attempt_record import Record


def note_setup(context: AttemptContext, before: dict[str, str]) -> None:
    """Record the uncommitted paths that `setup` has made or changed since `before`."""
    if marks := list_made(before, read_content_marks(context.worktree), read_marks(context.record)):
        context.note(findings=context.record.findings.with_prepared(marks))


def list_agent_changes(context: AttemptContext, state: BranchState) -> tuple[str, ...]:
    """Return the uncommitted paths of `state` that the agent has to commit or remove."""
    known, git = read_marks(context.record), context.run.git.isolation.checking_out(context.worktree)
    own: list[str] = []
    for path in state.dirty[:MOST]:
        if known.get(path) == mark_content(context.worktree.path / path):
            continue
        # The agent's git checks out files with the user's settings, coordinator's git with those of the commit.
        entry = context.run.git.objects.find_entry(state.commit, path) if state.commit else None
        writers = (git, context.worktree.git) if entry else ()
        if not entry or not any(is_as_written(one, context.worktree, entry, path) for one in writers):
            own.append(path)
    return (*own, *state.dirty[MOST:])


def list_excused(state: BranchState, own: Collection[str]) -> tuple[str, ...]:
    """Return the uncommitted paths of `state` that are not in `own`."""
    return tuple(path for path in state.dirty if path not in own)


def read_marks(record: Record) -> dict[str, str]:
    """Return the paths that `setup` left uncommitted, each with the mark of its content."""
    pairs = (line.partition(" ") for line in record.findings.prepared)
    return {path: mark for mark, _, path in pairs}
