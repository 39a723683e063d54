"""`coordinator validate`: lists every error in the configuration and the task files."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from flows.cli.commands.repository_snapshot import Configuration, read_leniently
from flows.cli.display.output import count, print_json, say
from tasks_lib.errors import Fault, InputError
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.repository import Repository
from tasks_lib.model import Task
from tasks_lib.project.agent_instructions import find_instruction_faults
from tasks_lib.project.loading import (
    bound_faults,
    find_branch_faults,
    find_claimed,
    find_passed_over,
    find_uncommitted,
    read_checkout,
)
from tasks_lib.project.target_base import open_head
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.settings.schema import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """What was read: `faults` are sorted; `uncommitted` are task files with changes that a run would not see."""

    task_files: int
    edges: int
    faults: tuple[Fault, ...]
    uncommitted: tuple[str, ...] = ()
    where: str = ""
    """Where the task files came from, if that is a remote's branch."""

    @property
    def has_errors(self) -> bool:
        return any(not fault.is_warning for fault in self.faults)


def validate_repository(path: Path, *, at_head: bool, as_json: bool, console: Console) -> ExitCode:
    """Print a line for each fault, then a summary. Raises InputError if `path` is not in a repository."""
    repository = Repository.open(path)
    finding = check_repository(repository, at_head=at_head)
    finding = replace(finding, faults=tuple(sorted((*finding.faults, *find_passed_over(repository, path)))))
    if as_json:
        print_json({"has_errors": finding.has_errors, **asdict(finding)})
    else:
        # Errors first, so that many warnings cannot hide one.
        for is_warning in (False, True):
            for fault in bound_faults(fault for fault in finding.faults if fault.is_warning is is_warning):
                say(console, str(fault))
        say(console, summarize(finding))
    return ExitCode.BAD_INPUT if finding.has_errors else ExitCode.COMPLETED


def check_repository(repository: Repository, *, at_head: bool = False) -> Finding:
    """Read configuration and task files, from the checkout or the head, and collect all their faults."""
    configuration = read_leniently(repository)
    is_from_head = at_head or repository.is_bare
    try:
        if is_from_head:
            tasks, found = _read_head(repository, configuration)
        else:
            tasks, found = read_checkout(repository, configuration.tasks_dir)
    except InputError as error:
        # If the configuration has faults, the folder is a guess, so it does not matter that it is missing.
        tasks, found = (), () if configuration.faults else error.faults
    told = _find_instruction_faults(repository, configuration)
    taken = _find_branch_faults(tasks, configuration)
    faults = sorted({*configuration.faults, *found, *find_claimed(tasks), *told, *taken})
    edges = sum(len(set(task.depends_on)) for task in tasks)
    uncommitted: Iterable[Fault] = () if is_from_head else find_uncommitted(repository, configuration.tasks_dir)
    where = _tell_where(repository, configuration) if is_from_head else ""
    return Finding(len(tasks), edges, tuple(faults), tuple(fault.path for fault in uncommitted), where)


def _tell_where(repository: Repository, configuration: Configuration) -> str:
    land = configuration.settings.land if configuration.settings else None
    if land is None or land.mode == "local":
        return ""
    return f"{land.base_name(configuration.target or repository.default_target())} as it was last fetched"


def _find_branch_faults(tasks: tuple[Task, ...], configuration: Configuration) -> tuple[Fault, ...]:
    if configuration.settings is None:
        return ()
    return tuple(find_branch_faults(tasks, configuration.settings, configuration.target))


def _find_instruction_faults(repository: Repository, configuration: Configuration) -> tuple[Fault, ...]:
    """Faults of prompts and roles, which a run reads from the target."""
    if configuration.settings is None:
        return ()
    return find_instruction_faults(repository, _open_head(repository, configuration).current(), configuration.settings)


def _open_head(repository: Repository, configuration: Configuration) -> Head:
    target = configuration.target or repository.default_target()
    # If the configuration has faults, the local branch is the best guess.
    return open_head(repository, configuration.settings or Settings(), target)


def _read_head(repository: Repository, configuration: Configuration) -> tuple[tuple[Task, ...], tuple[Fault, ...]]:
    head = _open_head(repository, configuration).current()
    objects = Objects(repository.git)
    try:
        reading = TaskReader(objects, configuration.tasks_dir, configuration.target).read(head)
    finally:
        objects.close()
    return reading.tasks, reading.find_faults()


def summarize(finding: Finding) -> str:
    """Write `12 task files, 17 edges, no errors`, and what a run would not see."""
    warnings = sum(fault.is_warning for fault in finding.faults)
    errors = len(finding.faults) - warnings
    read = f"{count(finding.task_files, 'task file')}, {count(finding.edges, 'edge')}"
    found = [count(number, noun) for number, noun in ((errors, "error"), (warnings, "warning")) if number]
    text = f"{f'{finding.where}: ' if finding.where else ''}{read}, {' and '.join(found) or 'no errors'}"
    if finding.uncommitted:
        text += f"; {count(len(finding.uncommitted), 'file')} not committed: a run only sees committed files"
    return text
