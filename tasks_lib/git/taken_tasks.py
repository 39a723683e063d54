"""Lists the tasks that people have taken, from the records of their worktrees."""

from tasks_lib.git.repository import Repository
from tasks_lib.git.session_record import read_record
from tasks_lib.git.worktree_admin import list_entries
from tasks_lib.session.attempt_record import Taken


def list_taken(repository: Repository) -> dict[str, Taken]:
    """Who has taken which task, by id. Blocking."""
    records = (read_record(entry.admin) for entry in list_entries(repository))
    return {one.task_id: one.taken for one in records if one and one.taken.by}
