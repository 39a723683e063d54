"""Says from which commit on a branch holds work of its own, and moves one that holds none to the head."""

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
    """From which commit on a branch at `commit`, which began at `base`, has work of its own.

    It is the last commit on the branch's first-parent line that came from the target, `base` where none did: a merge
    that brings in the target leaves the beginning where it was, and so does a person who merges the branch by hand.
    `git_dir` is the worktree's, whose log tells which commits were made in it.
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
    run: Run, worktree: Worktree, record: Record, head: str
) -> tuple[Record, BranchState | None]:
    """Move a branch without commits of its own to `head` before its next attempt, its worktree with it.

    Returns the record with the branch's beginning, and the state where that is known. What is uncommitted stays where
    it is, and so does work that is finished and waits to land.
    """
    if worktree.is_new_branch:
        return record, BranchState(record.branch, head, ())
    state = find_state(worktree)
    if state is None or state.branch != record.branch or record.acceptance.finished:
        return record, state if state and state.branch == record.branch else None
    start = find_branch_start(run, worktree.git_dir, record.attempt.base, state.commit)
    dirty = tuple(path for path in state.dirty if not is_copied(path, run.settings.copy_paths))
    if start == state.commit and fast_forward_worktree(worktree, replace(state, dirty=dirty), head):
        start, state = head, replace(state, commit=head)
    return record.change(attempt=record.attempt.start_at(start)), state
