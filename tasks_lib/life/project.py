"""Reads a person's repository: its configuration and the graph at the head, with every fault at once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import Fault, InputError
from tasks_lib.git.head import Head
from tasks_lib.git.objects import Objects
from tasks_lib.git.repository import Repository
from tasks_lib.git.taskreader import Reading, TaskReader
from tasks_lib.graph import Graph, build_graph, check_graph
from tasks_lib.model import Task
from tasks_lib.settings import Settings, read_settings, read_taskgraph_tasks_dir
from tasks_lib.taskfile import sketch_task

CONFIGURATION = "coordinator.yaml"
TASKGRAPH = ".taskgraph.toml"
DEFAULT_TASKS_DIR = "tasks"


@dataclass(frozen=True, slots=True)
class Project:
    """A repository as a run begins: `head` is the commit that `graph` was read from; `warnings` stop nothing."""

    repository: Repository
    settings: Settings
    target: str
    tasks_dir: str
    head: str
    graph: Graph
    warnings: tuple[Fault, ...]


def load_project(path: Path, environment: Mapping[str, str] | None = None) -> Project:
    """Read the repository at `path`; raises InputError naming every fault of configuration and task files."""
    repository = Repository.open(path)
    try:
        settings, tasks_dir, target = read_configuration(repository, os.environ if environment is None else environment)
    except InputError as error:
        raise InputError({*error.faults, *_find_task_faults(repository)}) from error
    head = Head(repository.git, target).current()
    reading = _read_tasks(repository, head, tasks_dir, target)
    faults = reading.find_faults()
    errors = [fault for fault in faults if not fault.is_warning]
    if errors:
        raise InputError(errors)
    warnings = [fault for fault in faults if fault.is_warning]
    warnings += find_uncommitted(repository, tasks_dir) + find_claimed(reading.tasks)
    return Project(repository, settings, target, tasks_dir, head, build_graph(reading.tasks), tuple(warnings))


def _read_tasks(repository: Repository, head: str, tasks_dir: str, target: str) -> Reading:
    objects = Objects(repository.git)
    try:
        return TaskReader(objects, tasks_dir, target).read(head)
    finally:
        objects.close()


def _find_task_faults(repository: Repository) -> list[Fault]:
    """The faults of the task files where they most likely are, when the configuration cannot say where that is."""
    try:
        branch = repository.default_target()
        head = Head(repository.git, branch).current()
        reading = _read_tasks(repository, head, _find_tasks_dir(repository, branch), branch)
    except InputError:
        return []
    return [fault for fault in reading.find_faults() if not fault.is_warning]


def _find_tasks_dir(repository: Repository, branch: str) -> str:
    text = _read_either(repository, TASKGRAPH, branch)
    return (read_taskgraph_tasks_dir(text, TASKGRAPH) if text else None) or DEFAULT_TASKS_DIR


def read_configuration(repository: Repository, environment: Mapping[str, str]) -> tuple[Settings, str, str]:
    """Settings, task folder and target; from the checkout, or where it has no such file from the target."""
    branch = repository.default_target()
    text = _read_either(repository, CONFIGURATION, branch)
    settings = read_settings(text or "", CONFIGURATION, environment)
    target = settings.target or branch
    if repository.branch_head(target) is None:
        message = f'target is "{target}", which is no branch of this repository; name one that is'
        raise InputError([Fault(CONFIGURATION, 0, message)])
    # Where one branch is another name of a second one, the second is what moves.
    target = repository.git.follow(f"refs/heads/{target}").removeprefix("refs/heads/")
    tasks_dir = settings.tasks_dir or _find_tasks_dir(repository, target)
    return settings, tasks_dir.strip("/"), target


def _read_either(repository: Repository, name: str, branch: str) -> str | None:
    file = repository.top / name
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError([Fault(name, 0, f"is not UTF-8 text ({error.reason}); save it as UTF-8")]) from error
    found = repository.git.run("cat-file", "blob", f"refs/heads/{branch}:{name}", accept=(0, 128))
    return found.stdout.decode("utf-8", "replace") if found.status == 0 else None


def find_uncommitted(repository: Repository, tasks_dir: str) -> list[Fault]:
    """A warning for each task file whose uncommitted state the graph does not see."""
    if repository.top == repository.common_dir:
        return []
    found = repository.git.run(
        "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", f":(top,literal){tasks_dir}"
    )
    paths = [entry[3:] for entry in found.text.split("\0") if entry.endswith(".md")]
    return [
        Fault(path, 0, "has changes that are not committed; the graph is what is committed", True) for path in paths
    ]


def find_claimed(tasks: tuple[Task, ...]) -> list[Fault]:
    """A warning for each file that says `in-progress`: nobody here works on it, so it counts as pending."""
    return [
        Fault(task.path, task.lines.get("status", 0), "status is in-progress; it counts as pending", True)
        for task in tasks
        if task.status == "in-progress"
    ]


def read_checkout(repository: Repository, tasks_dir: str) -> tuple[tuple[Task, ...], tuple[Fault, ...]]:
    """The task files as they lie in the checkout, committed or not, for a person who is writing them.

    Of files with faults there is what could be read of them.
    """
    folder = repository.top / tasks_dir
    if not folder.is_dir():
        raise InputError([f'there is no folder "{tasks_dir}" in {repository.top}; make it, or set tasks_dir'])
    tasks: list[Task] = []
    faults: list[Fault] = []
    for file in sorted(folder.rglob("*.md")):
        if file.is_symlink() or not file.is_file():
            continue
        task, found = sketch_task(file.read_bytes(), file.relative_to(repository.top).as_posix())
        faults += found
        if task:
            tasks.append(task)
    return tuple(tasks), (*faults, *check_graph(tasks))
