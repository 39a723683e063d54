"""Finds the commit from which a branch has work of its own, and moves a branch that has none to the head."""

from dataclasses import replace
from pathlib import Path

from tasks_lib.git.commits.branch_state import BranchState, read_line
from tasks_lib.git.commits.merge_tree import find_merge_base
from tasks_lib.git.inspection.branch_commits import list_made
from tasks_lib.git.publish.worktree_fast_forward import fast_forward_worktree, find_state
from tasks_lib.git.worktree_admin import Worktree
from tasks_lib.runtime.copied_files import is_copied
from tasks_lib.runtime.run_context import Run
from tasks_lib.session.attempt_record import Record


def find_branch_start(run: Run, git_dir: Path, base: str, commit: str) -> str:
    """Find the commit after which a branch at `commit`, which began at `base`, has work of its own.

    That is the last commit on the branch's first-parent line that came from the target, or `base` if there is none.
    Neither merging the target into the branch nor a manual merge of the branch by the user changes it. `git_dir` is
    the worktree's git directory, whose reflog shows which commits were made in it.
    """
    if not base or commit == base or run.git.head.last_seen() == base == run.git.head.last_seen_base():
        return base
    git = run.git.repository.git
    commits = read_line(run.git.objects, base, commit).commits
    held = len(commits)
    for tip in dict.fromkeys((run.git.head.newest_seen(), run.git.head.last_seen_base())):
        if (met := find_merge_base(git, tip, commit)) in commits:
            held = min(held, commits.index(met))
    made = list_made(git_dir) or set[str]()
    return next((one for one in commits[held:] if one not in made), base)


def update_unstarted_branch(
    run: Run, worktree: Worktree, record: Record, head: str, *, may_move: bool = True
) -> tuple[Record, BranchState | None]:
    """Fast-forward a branch without commits of its own, and its worktree, to `head` before its next attempt.

    Returns the record with the start of the branch, and the state of the worktree, None if it is not known. A branch
    is not moved if it has uncommitted changes or finished work that is waiting to land, nor without `may_move`.
    """
    if worktree.is_new_branch:
        return record, BranchState(record.branch, head, ())
    state = find_state(worktree)
    if state is None or state.branch != record.branch or record.acceptance.finished:
        return record, state if state and state.branch == record.branch else None
    start = find_branch_start(run, worktree.git_dir, record.attempt.base, state.commit)
    dirty = tuple(path for path in state.dirty if not is_copied(path, run.settings.copy_paths))
    if may_move and start == state.commit and fast_forward_worktree(worktree, replace(state, dirty=dirty), head):
        start, state = head, replace(state, commit=head)
    return record.change(attempt=record.attempt.start_at(start)), state
