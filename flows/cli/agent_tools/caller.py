"""Finds out who uses the tools: a session of a run, something else that a run has started, or anybody else."""

import os
from dataclasses import dataclass
from pathlib import Path

from flows.cli.commands.notify import find_node
from tasks_lib.errors import InputError
from tasks_lib.graph.spawned_tasks import Tasks, list_spawned
from tasks_lib.project.child_environment import REPOSITORY_MARKER


@dataclass(frozen=True, slots=True)
class Caller:
    """Who uses the tools. `task_id` is the task of the calling `session`, "" if it is not the session of a node.

    `is_reader` is what a run has started without being the session of a node, such as a reviewer.
    """

    task_id: str = ""
    session: str = ""
    is_reader: bool = False

    def require_may_act(self) -> None:
        """Raise InputError for one that may only read."""
        if self.is_reader:
            raise InputError(["only the session of a task may do this; a reviewer or a resolver may only read"])

    def require_is_below(self, task_id: str, tasks: Tasks) -> None:
        """Raise InputError unless the caller may speak to `task_id`, or end it: a session only if it spawned it."""
        self.require_may_act()
        if self.task_id and task_id not in list_spawned(tasks, self.task_id):
            raise InputError(
                [f"{task_id} was not spawned by {self.task_id}, whose session may reach only what it spawned"]
            )


def identify(place: Path) -> Caller:
    """Find out who uses the tools in the directory `place`: its worktree says so, as for `coordinator notify`."""
    try:
        _, record = find_node(place)
    except InputError:
        return Caller(is_reader=REPOSITORY_MARKER in os.environ)
    return Caller(record.task_id, record.attempt.session)
