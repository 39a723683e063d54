"""Says from which commit on a branch holds work of its own, and moves one that holds none to the head."""

from dataclasses import replace

from tasks_lib.git.branches import BranchState, read_line
from tasks_lib.git.entries import Worktree
from tasks_lib.git.following import bring_forward, find_state
from tasks_lib.git.merging import find_merge_base, is_ancestor
from tasks_lib.git.records import Record
from tasks_lib.life.copying import is_copied
from tasks_lib.life.run import Run


def find_start(run: Run, base: str, commit: str) -> str:
    """From which commit on a branch at `commit`, which began at `base`, has work of its own. Call in a thread.

    It is the last commit of the target's on the branch's first-parent line, `base` where that holds none: a merge that
    brings in the target leaves the beginning where it was.
    """
    if not base or commit == base or run.head.last_seen() == base == run.head.last_seen_base():
        return base
    git = run.repository.git
    tips = dict.fromkeys((run.head.current(), run.head.last_seen_base()))
    if any(is_ancestor(git, commit, tip) for tip in tips):
        return commit
    commits = read_line(run.objects, base, commit).commits
    met = [commits.index(found) for tip in tips if (found := find_merge_base(git, tip, commit)) in commits]
    return commits[min(met)] if met else base


def bring_up_to_date(run: Run, worktree: Worktree, record: Record, head: str) -> tuple[Record, BranchState | None]:
    """Move a branch without commits of its own to `head` before its next attempt, its worktree with it.

    Returns the record with the branch's beginning, and the state where that is known. What is uncommitted stays where
    it is, and so does work that is finished and waits to land. Call in a thread.
    """
    if worktree.is_new_branch:
        return record, BranchState(record.branch, head, ())
    state = find_state(worktree)
    if state is None or state.branch != record.branch:
        return record, None
    dirty = tuple(path for path in state.dirty if not is_copied(path, run.settings.copy_paths))
    if not record.finished and bring_forward(worktree, replace(state, dirty=dirty), head):
        state = replace(state, commit=head)
    start = find_start(run, record.base, state.commit)
    return replace(record, base=start, fork=start if start != record.base else record.fork), state
