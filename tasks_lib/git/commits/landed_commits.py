"""Finds which commits completed nodes, by the trailers of coordinator's commits."""

from collections.abc import Mapping

from tasks_lib.git.commits.commit import read_first_parents
from tasks_lib.git.commits.commit_messages import TASK
from tasks_lib.git.runner import Git


def find_landed(git: Git, head: str, limit: int) -> Mapping[str, str]:
    """The id of each node that the last `limit` first-parent commits of `head` completed, with that commit."""
    landed: dict[str, str] = {}
    for commit in read_first_parents(git, head, limit):
        # Most commits are not coordinator's, so check the subject first.
        if commit.subject.startswith(("Merge ", "Check ")) and (task_id := commit.trailers.get(TASK)):
            landed.setdefault(task_id, commit.id)
    return landed
