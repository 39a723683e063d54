"""Releases the worktree of a node that has landed, and deletes its branch, without losing what did not land."""

from tasks_lib.errors import GitError
from tasks_lib.git.branches import create_branch, delete_branch
from tasks_lib.git.commits.branch_state import read_state
from tasks_lib.git.kept.snapshots import keep_state
from tasks_lib.git.kept.unreferenced_commits import keep_unreferenced
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.node.uncommitted_paths import list_agent_changes, list_excused
from tasks_lib.node.worktree_repair import remove_nested_items


def release_worktree(context: AttemptContext, landed: str) -> None:
    """Release the worktree for reuse by a dependent; keep whatever the commit `landed` does not contain at a ref."""
    run = context.run
    remove_nested_items(context)
    try:
        state = read_state(context.worktree.git)
        own = list_agent_changes(context, state)
        if state.commit != landed or own:
            excused = (*run.settings.copy_paths, *list_excused(state, own))
            keep_state(context.worktree, context.task.id, run.id, landed=landed, exclude=excused)
        keep_unreferenced(run.git.repository, context.worktree.git_dir, context.branch, context.task.id, state.commit)
        context.state = state
        # A person's programs may still have theirs open, so no agent may get it.
        (run.git.worktrees.remove if context.task.is_human else run.git.worktrees.release)(context.worktree)
    except GitError as error:
        said = f"Could not clean up {context.worktree.path}: {error}. Nothing is lost; the next run tries again."
        run.say_from_thread(said)


def delete_landed_branch(context: AttemptContext, merge: str) -> None:
    """Delete the branch of a node that landed as `merge`, unless it has moved since."""
    run, landed = context.run, context.record.acceptance.finished
    tip = context.state.commit if context.state else landed
    delete_branch(run.git.repository, context.branch, tip)
    head = run.git.head.last_seen()
    if not run.git.head.contains(merge, head) and not run.git.head.contains(landed, head):
        # The base moved meanwhile and the merge was taken back, so only the branch contains the work.
        create_branch(run.git.repository, context.branch, tip)
