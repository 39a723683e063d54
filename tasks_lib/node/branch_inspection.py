"""Has the commits of a node's branch inspected when a turn is over, before anything of them is accepted."""

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
from tasks_lib.node.attempt_context import Work
from tasks_lib.node.branch_start import find_start
from tasks_lib.session.turn_ending import Finding

MEBIBYTE = 1 << 20


def record_fork(work: Work, commit: str) -> None:
    """Note where the branch, at `commit` before its first turn, left the head."""
    if not work.record.attempt.fork:
        head = work.run.git.head.last_seen()
        fork = commit if commit == head else find_merge_base(work.run.git.repository.git, head, commit)
        work.note(attempt=work.record.attempt.with_fork(fork or ""))


def follow_branch(work: Work, commit: str) -> None:
    """Note where the branch, now at `commit`, begins, if it was fast-forwarded or rebased.

    What a person or another node landed is not the work of the agent that takes it in.
    """
    start = find_start(work.run, work.worktree.git_dir, work.record.attempt.base, commit)
    if start != work.record.attempt.base:
        work.note(attempt=work.record.attempt.start_at(start))


def inspect_branch(work: Work, commit: str) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """The paths that the branch changed up to `commit`, without what it merged from the head; what must not land."""
    run, git = work.run, work.run.git.repository.git
    head = run.git.head.last_seen()
    span = Range(work.record.attempt.fork, head, commit)
    # A head that was made again on a base that moved may have lost the fork itself.
    if (
        span.fork
        and run.git.head.contains(span.fork, head)
        and not is_history_kept(git, run.git.objects, span.fork, commit)
    ):
        return (), (describe_lost_history(span.fork, work.branch),)
    changes = find_work(work, commit)
    own = list_own_commits(git, run.git.objects, span)
    findings = (
        *find_foreign_commits(git, own, head, _list_other_branches(work), work.worktree.git_dir),
        *find_large(run.git.objects, own, commit, run.settings.land.max_file_mb * MEBIBYTE),
        *find_unusual_entries(run.git.objects, changes, commit),
        *find_unreachable_submodule_commits(work, commit, changes),
    )
    return tuple(change.path for change in changes), findings


def find_unreachable_submodule_commits(work: Work, commit: str, changes: tuple[Change, ...]) -> Iterator[Finding]:
    """Submodules whose commit nothing that lasts would hold once the worktree is gone."""
    run, worktree = work.run, work.worktree
    for pointer in list_pointers(run.git.repository.git, commit, changes):
        stores = find_stores(run.git.repository, worktree.path, worktree.git_dir, pointer)
        kept = secure(run.git.repository, stores, pointer, work.task.id, is_shared=run.project.is_remote)
        where = f"{show(pointer.path)} is at {pointer.commit[:10]}"
        if kept:
            run.say_from_thread(
                f"{work.task.id}: {where}, which is not on any remote yet; it is kept in {kept}. Push it from there."
            )
        elif kept is None:
            yield Finding(
                f"{where}, a commit that is not on any remote of the submodule",
                "Push it to the submodule's remote, or point to a commit that is there. If you can do neither, do a "
                "Safe Exit and say so.",
            )


def find_work(work: Work, commit: str) -> tuple[Change, ...]:
    """What the branch changed up to `commit`, but for what it merged from the head."""
    run = work.run
    if read_line(run.git.objects, work.record.attempt.base, commit).is_plain:
        return tuple(run.git.objects.diff(work.record.attempt.base, commit))
    return find_changes(run.git.repository.git, run.git.head.last_seen(), commit)


def _list_other_branches(work: Work) -> dict[str, str]:
    """The branches of other nodes that have not landed, with their commits."""
    run = work.run
    tasks = tuple(run.nodes.graph.tasks.values())
    names = {run.nodes.branch_of(task.id) for task in tasks if not task.is_completed} - {work.branch}
    if not names:
        return {}
    return {name: tip for name, tip in list_branches(run.git.repository.git).items() if name in names}
