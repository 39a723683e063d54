"""Restores a node's worktree after its agent: on its branch, undamaged, and without what it made elsewhere."""

from tasks_lib.errors import GitError
from tasks_lib.node.attempt_context import AttemptContext


def reopen_worktree(context: AttemptContext, *, is_unreadable: bool = False) -> None:
    """Restore a worktree that this agent or another one has damaged or left on another branch."""
    run = context.run
    start = context.record.attempt.base or run.git.head.last_seen()
    context.worktree = run.git.worktrees.reopen(
        context.worktree, context.branch, start, is_unreadable=is_unreadable, label=context.task.id
    )
    context.state = None
    context.note(attempt=context.record.attempt.with_slot(context.worktree.slot))


def remove_nested_items(context: AttemptContext) -> None:
    """Keep and remove what the agent made besides its branch, and note it for the next attempt."""
    try:
        taken = context.run.git.worktrees.take_out(context.worktree, context.task.id)
    except (GitError, OSError) as error:
        context.run.say_from_thread(
            f"Could not remove what {context.task.id} made beside its branch: {error}. The next run tries again."
        )
        return
    if stashes := [one.stash for one in taken if one.stash]:
        context.run.shared_state.pass_over(stashes)
    if taken:
        context.note(notes=(*context.record.notes, *map(str, taken)))
