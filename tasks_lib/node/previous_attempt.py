"""Reads what earlier attempts at a node left: the record in its worktree, or the commit that marks it as blocked."""

from collections.abc import Mapping

from tasks_lib.git.commits.commit_messages import ATTEMPT
from tasks_lib.git.commits.commit_search import find_last_by_subject
from tasks_lib.git.publish.worktree_fast_forward import holds_work_at
from tasks_lib.git.repository import Repository
from tasks_lib.git.session_record import read_git_link, read_record
from tasks_lib.git.worktree_admin import find_entry
from tasks_lib.model import AttemptEnd, Status, Task
from tasks_lib.session.attempt_record import Record
from tasks_lib.text import read_count


def read_previous(
    repository: Repository, tasks: Mapping[str, Task], task_id: str, branch: str, head: str
) -> Record | None:
    """Return the record that an earlier attempt left, None if there is none.

    If the coordinator was killed after committing a blocker but before noting it in the record, the returned record is
    marked as blocked because of the commit. `tasks` are the tasks of the graph at the commit `head`, by id.
    """
    git_dir = read_git_link(repository.worktrees_dir / branch)
    # By name, because in a copied repository the worktree's link points to the original until a run relinks it.
    found = read_record(repository.common_dir / "worktrees" / git_dir.name) if git_dir else None
    if (
        found
        and found.stage not in (AttemptEnd.BLOCKED, AttemptEnd.ANSWERED)
        and count_attempts(repository, tasks[task_id], head) == found.attempt.number
    ):
        return found.change(stage=AttemptEnd.BLOCKED)
    return found


def count_attempts(repository: Repository, task: Task, head: str) -> int:
    """Return the `Attempt:` trailer of the last blocker of `task` in the history of `head`, 0 if there is none."""
    if task.status is not Status.BLOCKED:
        return 0
    blocker = find_last_by_subject(repository.git, head, f"blocked({task.id}):")
    attempt = blocker.trailers.get(ATTEMPT, "") if blocker else ""
    return read_count(attempt) or 0


def is_work_left(repository: Repository, branch: str, head: str) -> bool:
    """Whether the next attempt continues in a worktree that an earlier one left on `branch` with work in it.

    A worktree with nothing beyond the commit `head` is moved there before the attempt and then counts as new.
    """
    entry = find_entry(repository, repository.worktrees_dir / branch)
    if entry is None or entry.is_partial or entry.branch != branch:
        return False
    return holds_work_at(entry, head)
