"""`coordinator doctor`: checks that everything a run needs is in place, and says how to fix what is not."""

from collections.abc import Iterator
from pathlib import Path

from flows.cli.commands.doctor_check import Check, fail, ok, warn
from flows.cli.commands.doctor_machine import check_data_dir, check_prefect, check_server
from flows.cli.commands.doctor_programs import check_agent, check_verify
from flows.cli.commands.doctor_repository import (
    check_attributes,
    check_branches,
    check_case,
    check_disk,
    check_identity,
    check_ignored,
    check_names,
    check_place,
    check_remote,
    check_shallow,
    check_signing,
    check_spokes,
    check_strangers,
)
from flows.cli.commands.repository_snapshot import Snapshot, read_leniently, read_snapshot
from flows.cli.commands.validate import check_repository
from flows.cli.display.output import count
from tasks_lib.errors import CoordinatorError, Fault
from tasks_lib.git.git_program import find_version
from tasks_lib.git.repository import Repository


def list_checks(path: Path) -> Iterator[Check]:
    """Run every check, starting with those that others depend on."""
    yield check_data_dir()
    yield from check_prefect()
    yield check_server()
    try:
        snapshot = read_snapshot(path)
    except CoordinatorError as error:
        yield fail("repository", str(error))
        return
    yield ok("git", ".".join(map(str, find_version())))
    yield ok("repository", str(snapshot.repository.top))
    yield from _check_repository(snapshot.repository)
    yield from _check_input(snapshot)
    # The configuration is read from the checkout, so what it names can be checked even if the head has errors.
    settings = snapshot.project.settings if snapshot.project else read_leniently(snapshot.repository).settings
    if settings:
        yield check_verify(settings, snapshot.project)
        yield from check_agent(settings, snapshot.project)
    if snapshot.project:
        for check in (check_branches, check_names, check_case, check_disk):
            yield check(snapshot.project)
        yield from check_attributes(snapshot.project)
        yield from check_remote(snapshot.project)
        yield from check_spokes(snapshot.project)
    if snapshot.holder:
        yield warn("run", f"{snapshot.holder} is in progress; another run cannot start until it ends")
    else:
        yield ok("run", "none is in progress")


def _check_repository(repository: Repository) -> Iterator[Check]:
    for check in (check_identity, check_signing, check_shallow, check_ignored):
        yield check(repository)
    yield from check_place(repository)
    yield from check_strangers(repository)


def _check_input(snapshot: Snapshot) -> Iterator[Check]:
    """Check configuration and task files at the head, which a run uses, and in the checkout, which the next may use."""
    finding = check_repository(snapshot.repository)
    known = set(snapshot.faults)
    for fault in snapshot.faults:
        yield fail(_name(fault), str(fault))
    for fault in finding.faults:
        if fault not in known:
            about = f"{_name(fault)} in the checkout"
            # Errors that are only in the checkout do not stop a run yet, except those of the configuration.
            yield warn(about, str(fault))
    for fault in snapshot.project.warnings if snapshot.project else ():
        if fault.path in finding.uncommitted:
            yield warn("task files", str(fault))
    if snapshot.project:
        project = snapshot.project
        kind = "the remote branch" if project.is_remote else "the local branch"
        yield ok("target", f"work lands on {kind} {project.where}, at {project.head[:10]} now")
        edges = sum(len(project.graph.prerequisites(task_id)) for task_id in project.graph.tasks)
        text = f"{count(len(project.graph.tasks), 'task file')} and {count(edges, 'edge')} in {project.tasks_dir}/"
        yield ok("task files", text)


def _name(fault: Fault) -> str:
    if not fault.path:
        return "head"
    return "task files" if fault.path.endswith(".md") else "configuration"
