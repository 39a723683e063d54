"""Inspects the commits of a node's branch when a turn has ended, before any of them are accepted."""

from collections.abc import Iterator

from tasks_lib.git.commits.branch_state import find_changes, read_line
from tasks_lib.git.commits.merge_tree import find_merge_base
from tasks_lib.git.inspection.branch_commits import (
    Range,
    describe_lost_history,
    find_foreign_commits,
    find_large,
    find_unusual_entries,
    is_history_kept,
    list_own_commits,
)
from tasks_lib.git.kept.submodules import find_stores, list_pointers, secure
from tasks_lib.git.objects.object_database import Change
from tasks_lib.git.ref_listing import list_branches
from tasks_lib.naming import show
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.node.branch_start import find_branch_start
from tasks_lib.session.turn_ending import Finding

MEBIBYTE = 1 << 20


def record_fork(context: AttemptContext, commit: str) -> None:
    """Record where the branch, at `commit` before its first turn, forked from the head."""
    if not context.record.attempt.fork:
        head = context.run.git.head.last_seen()
        fork = commit if commit == head else find_merge_base(context.run.git.repository.git, head, commit)
        context.note(attempt=context.record.attempt.with_fork(fork or ""))


def follow_branch(context: AttemptContext, commit: str) -> None:
    """Record where the branch, now at `commit`, begins if it was fast-forwarded or rebased.

    Commits that the user made or another node landed do not count as work of the agent that brings them in.
    """
    start = find_branch_start(context.run, context.worktree.git_dir, context.record.attempt.base, commit)
    if start != context.record.attempt.base:
        context.note(attempt=context.record.attempt.start_at(start))


def inspect_branch(context: AttemptContext, commit: str) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Return the paths that the branch changed up to `commit`, without merges from the head, and what must not land."""
    run, git = context.run, context.run.git.repository.git
    head = run.git.head.last_seen()
    span = Range(context.record.attempt.fork, head, commit)
    # A head that was recreated on a base that moved may no longer contain the fork itself.
    if (
        span.fork
        and run.git.head.contains(span.fork, head)
        and not is_history_kept(git, run.git.objects, span.fork, commit)
    ):
        return (), (describe_lost_history(span.fork, context.branch),)
    changes = find_work(context, commit)
    own = list_own_commits(git, run.git.objects, span)
    findings = (
        *find_foreign_commits(git, own, head, _list_other_branches(context), context.worktree.git_dir),
        *find_large(run.git.objects, own, commit, run.settings.land.max_file_mb * MEBIBYTE),
        *find_unusual_entries(run.git.objects, changes, commit),
        *find_unreachable_submodule_commits(context, commit, changes),
    )
    return tuple(change.path for change in changes), findings


def find_unreachable_submodule_commits(
    context: AttemptContext, commit: str, changes: tuple[Change, ...]
) -> Iterator[Finding]:
    """Yield a finding for each submodule whose commit would be lost once the worktree is removed.

    Commits that exist only in the worktree are kept in the repository first, where possible.
    """
    run, worktree = context.run, context.worktree
    for pointer in list_pointers(run.git.repository.git, commit, changes):
        stores = find_stores(run.git.repository, worktree.path, worktree.git_dir, pointer)
        kept = secure(run.git.repository, stores, pointer, context.task.id, is_shared=run.project.is_remote)
        where = f"{show(pointer.path)} is at {pointer.commit[:10]}"
        if kept:
            run.say_from_thread(
                f"{context.task.id}: {where}, which is not on any remote yet; it is kept in {kept}. Push it from there."
            )
        elif kept is None:
            yield Finding(
                f"{where}, a commit that is not on any remote of the submodule",
                "Push it to the submodule's remote, or point to a commit that is there. If you can do neither, do a "
                "Safe Exit and say so.",
            )


def find_work(context: AttemptContext, commit: str) -> tuple[Change, ...]:
    """Return the changes that the branch made up to `commit`, without those that it merged from the head."""
    run = context.run
    if read_line(run.git.objects, context.record.attempt.base, commit).is_plain:
        return tuple(run.git.objects.diff(context.record.attempt.base, commit))
    return find_changes(run.git.repository.git, run.git.head.last_seen(), commit)


def _list_other_branches(context: AttemptContext) -> dict[str, str]:
    """Return the branches of other nodes that have not landed, with their commits."""
    run = context.run
    tasks = tuple(run.nodes.graph.tasks.values())
    names = {run.nodes.branch_of(task.id) for task in tasks if not task.is_completed} - {context.branch}
    if not names:
        return {}
    return {name: tip for name, tip in list_branches(run.git.repository.git).items() if name in names}
