"""Looks at a registered repository as its next session would, without starting one."""

from tasks_lib.errors import InputError
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.remote_sessions.session_repository import SessionRepository
from tasks_lib.graph.task_graph import build_graph, check_graph
from tasks_lib.project.loading import CONFIGURATION, DEFAULT_TASKS_DIR, Project
from tasks_lib.settings.schema import Settings
from tasks_lib.spokes.workspace import read_session_settings


def read_session_project(copy: SessionRepository, tip: str) -> Project:
    """Read the configuration, and the task files without errors, at the commit `tip` of the registered branch.

    Raises InputError with every fault of the configuration. Task files with errors are the hub's to report.
    """
    with Objects(copy.repository.git) as objects:
        settings, _ = read_settings_at(objects, tip)
        folder = settings.tasks_dir or DEFAULT_TASKS_DIR
        try:
            tasks = TaskReader(objects, folder, copy.target).read(tip).tasks
            graph = build_graph(() if any(not fault.is_warning for fault in check_graph(tasks)) else tasks)
        except InputError:
            graph = build_graph(())
    return Project(copy.repository, settings, copy.target, folder, tip, graph, ())


def read_settings_at(objects: Objects, commit: str) -> tuple[Settings, str]:
    """Read the configuration of sessions at a commit, and its digest. Raises InputError."""
    entry = objects.find_entry(commit, CONFIGURATION)
    text = objects.read(entry.oid).decode("utf-8-sig", "replace") if entry and entry.is_file else ""
    return read_session_settings(text)


def measure_files(project: Project) -> int:
    """How many bytes the files of one worktree take."""
    with Objects(project.repository.git) as objects:
        return objects.measure_tree(project.head)
