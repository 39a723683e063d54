"""Offers the task files at the head as resources."""

from pathlib import Path
from urllib.parse import quote, unquote

from tasks_lib.errors import InputError
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.model import Task
from tasks_lib.naming import show
from tasks_lib.project.loading import load_project
from tasks_lib.suggestions import suggest

START = "coordinator://tasks/"
MIME_TYPE = "text/markdown"


def name_resource(task_id: str) -> str:
    return f"{START}{quote(task_id)}"


def list_tasks(path: Path) -> list[Task]:
    """The tasks at the head, in topological order. Raises InputError naming every fault."""
    project = load_project(path)
    return [project.graph.tasks[task_id] for task_id in project.graph.order()]


def read_task_file(path: Path, uri: str) -> str:
    """The text of a task file at the head. Raises InputError if there is none."""
    project, task_id = load_project(path), unquote(uri.removeprefix(START))
    task = project.graph.tasks.get(task_id)
    if not uri.startswith(START) or task is None:
        hint = suggest(task_id, project.graph.tasks)
        raise InputError([f'"{show(uri)}" is not a task file; they are {START}<id>{hint}'])
    with Objects(project.repository.git) as objects:
        return TaskReader(objects, project.tasks_dir, project.target).text(project.head, task.path) or ""
