"""`coordinator doctor`: checks that everything a run needs is in place, and says how to fix what is not."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from flows.cli.commands.doctor_check import Check, fail, ok, warn
from flows.cli.commands.doctor_machine import check_data_dir, check_prefect, check_server
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
from tasks_lib.agents.command_backend import check_command
from tasks_lib.engine.run_lifecycle import NO_VERIFY
from tasks_lib.errors import CoordinatorError, Fault, InputError
from tasks_lib.git.git_program import find_version, local_variables
from tasks_lib.git.repository import Repository
from tasks_lib.process.allowed_variables import scrub
from tasks_lib.process.user_environment import user_environment
from tasks_lib.project.child_environment import find_own_bin
from tasks_lib.project.loading import CONFIGURATION, Project
from tasks_lib.runtime.backend_factory import NO_AGENT, examine_backend
from tasks_lib.settings.schema import Settings


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
        yield check_verify(settings)
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


def check_verify(settings: Settings) -> Check:
    """Check that landed work is tested."""
    lines = ", ".join(f"`{line}`" for line in settings.verify)
    return ok("verify", lines) if lines else warn("verify", NO_VERIFY)


def check_agent(settings: Settings, project: Project | None) -> Iterator[Check]:
    """Check that the configured agent is available; `project` is None while the input has errors."""
    if settings.agent.backend == "opencode":
        yield from check_opencode(project)
    else:
        yield from check_programs(settings)


def check_opencode(project: Project | None) -> Iterator[Check]:
    """Check that an opencode server starts, or the configured one answers, and has what the open tasks need."""
    if project is None:
        yield warn("agent", "opencode was not checked; fix the errors above first")
        return
    try:
        asyncio.run(examine_backend(project))
    except InputError as error:
        for fault in error.faults:
            yield fail("agent", str(fault))
    except CoordinatorError as error:
        yield fail("agent", str(error))
    else:
        where = f"the server at {project.settings.agent.url}" if project.settings.agent.url else "a server of its own"
        yield ok("agent", f"opencode, on {where}, has every role and model that the open tasks need")


def check_programs(settings: Settings) -> Iterator[Check]:
    """Check that the agent and its wrapper are programs on the PATH that they will be given."""
    if not settings.agent.command:
        yield fail("agent", NO_AGENT)
        return
    allowed = scrub(user_environment(), settings.env.agent, git_variables=local_variables(), own_bin=find_own_bin())
    search_path = allowed.get("PATH", os.defpath)
    if settings.wrapper:
        if fault := check_command(settings.wrapper, search_path):
            yield fail("wrapper", fault)
        else:
            yield ok("wrapper", f"found `{settings.wrapper[0]}`; it looks up the agent itself")
        return
    if fault := check_command(settings.agent.command, search_path):
        yield fail("agent", fault)
    else:
        yield ok("agent", f"found `{settings.agent.command[0]}`, as set in {CONFIGURATION}")
