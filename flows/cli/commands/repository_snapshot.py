"""Reads a repository for the commands that show it: all its errors, and its head, lock and last run together."""

import os
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import Fault, InputError
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import Holder
from tasks_lib.project.loading import Project, guess_tasks_dir, load_project, read_configuration
from tasks_lib.runtime.last_run import LastRun, read_last_run
from tasks_lib.runtime.status_board import RunView
from tasks_lib.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Configuration:
    """What `coordinator.yaml` says. With `faults`, only `tasks_dir` is set, as a best guess."""

    settings: Settings | None
    tasks_dir: str
    target: str
    faults: tuple[Fault, ...] = ()


def read_leniently(repository: Repository) -> Configuration:
    """Read the configuration and return its faults with it, so they can be reported along with those of task files."""
    try:
        settings, tasks_dir, target = read_configuration(repository, os.environ)
    except InputError as error:
        return Configuration(None, guess_tasks_dir(repository, os.environ), "", error.faults)
    return Configuration(settings, tasks_dir, target)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository at one moment. `project` is None, with `faults`, where the head or the configuration is broken."""

    repository: Repository
    project: Project | None
    faults: tuple[Fault, ...]
    run: LastRun

    @property
    def view(self) -> RunView | None:
        """What the current run wrote, or else the last one; None if no run has written anything yet."""
        return self.run.view

    @property
    def holder(self) -> Holder | None:
        return self.run.holder

    @property
    def is_alive(self) -> bool:
        """Whether a run is in progress, or about to be."""
        return self.run.is_alive

    @property
    def was_killed(self) -> bool:
        """Whether the last run was killed or crashed, so that it never recorded how it ended."""
        return self.run.was_killed


def read_snapshot(path: Path) -> Snapshot:
    """Read the repository that contains `path`. Raises InputError if there is none."""
    repository = Repository.open(path)
    run = read_last_run(repository.state_dir)
    try:
        return Snapshot(repository, load_project(repository.top), (), run)
    except InputError as error:
        return Snapshot(repository, None, error.faults, run)


def find_outcomes(snapshot: Snapshot) -> dict[str, str]:
    """The last run's outcome for each node that is not completed at the head, in the words that drawings use."""
    if snapshot.view is None or snapshot.project is None:
        return {}
    tasks = snapshot.project.graph.tasks
    found: dict[str, str] = {}
    for node in snapshot.view.nodes.values():
        if node.id not in tasks or tasks[node.id].is_completed or node.outcome.is_landed:
            continue
        if node.outcome:
            found[node.id] = node.outcome
        elif node.is_running and snapshot.is_alive:
            found[node.id] = "running"
    return found
