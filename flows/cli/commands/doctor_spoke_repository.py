"""Checks a repository that is registered on a machine of sessions, for `coordinator doctor --spoke`."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from flows.cli.commands.doctor_check import Check, fail, ok, warn
from flows.cli.commands.doctor_programs import check_agent
from flows.data_directory import name_program
from flows.spokes.registry import SpokeRepository
from tasks_lib.agents.command_versions import find_stated_version
from tasks_lib.errors import CoordinatorError, InputError, RemoteError
from tasks_lib.git.git_program import local_variables
from tasks_lib.git.remote_sessions.access_probe import find_push_fault
from tasks_lib.git.remote_sessions.session_repository import SessionRepository
from tasks_lib.process.allowed_variables import scrub
from tasks_lib.process.user_environment import user_environment
from tasks_lib.project.child_environment import find_own_bin
from tasks_lib.project.loading import CONFIGURATION, Project
from tasks_lib.settings.schema import Settings
from tasks_lib.spokes.examination import read_session_project

_GLOB = re.compile(r"[*?\[]")


def check_repository(one: SpokeRepository, pool: str, on_project: Callable[[Project], None]) -> Iterator[Check]:
    """Check git access to a registered repository, and what its configuration needs on this machine.

    Calls `on_project` with the repository's newest state if it can be read.
    """
    name = one.name
    try:
        copy = SessionRepository(one.place, one.target)
    except (CoordinatorError, OSError) as error:
        how = f"`{name_program()} spoke add {one.url}` makes it again"
        yield fail(f"{name} copy", f"{one.place} cannot be used ({error}); {how}")
        return
    try:
        tip = copy.remote.remote.fetch()
    except RemoteError as error:
        how = f"make sure that `git -C {one.place} fetch` works as this user, without a prompt"
        yield fail(f"{name} fetch", f"{one.url}: {error}; {how}")
        return
    yield ok(f"{name} fetch", f"{one.url} answers; {one.target} is at {tip[:10]}")
    if fault := find_push_fault(copy.remote, tip):
        yield fail(f"{name} push", f"{one.url}: {fault}; sessions push below refs/coordinator/sessions/")
    else:
        yield ok(f"{name} push", "refs below refs/coordinator/sessions/ can be pushed and deleted")
    try:
        project = read_session_project(copy, tip)
    except InputError as error:
        for fault in error.faults:
            yield fail(f"{name} configuration", f"{fault} (at {tip[:10]})")
        return
    on_project(project)
    yield from _check_large_files(name, copy, tip)
    yield from _check_configuration(one, project.settings, pool)
    for check in check_agent(project.settings, project):
        yield Check(check.level, f"{name} {check.about}", _add_version(check, project.settings))
    yield from _check_variables(name, project.settings)
    yield from _check_files(name, one.files, project.settings)


def _check_configuration(one: SpokeRepository, settings: Settings, pool: str) -> Iterator[Check]:
    """Check that runs with these settings would send their sessions to this machine, under the registered name."""
    about, spokes = f"{one.name} configuration", settings.spokes
    faults: list[Check] = []
    if not spokes.remote:
        text = f"{CONFIGURATION} on {one.target} names no spokes.remote, so runs send no sessions here"
        faults.append(warn(about, f"{text}; add it, and push {one.target}"))
    if spokes.work_pool != pool:
        how = f"give `--pool {spokes.work_pool}` to doctor and to `spoke start`"
        faults.append(fail(about, f"sessions go to the work pool {spokes.work_pool}, not {pool}; {how}"))
    if spokes.repository and spokes.repository != one.name:
        how = f"register it with `--name {spokes.repository}`"
        faults.append(fail(about, f"runs call the repository {spokes.repository}, not {one.name}; {how}"))
    if settings.target and settings.target != one.target:
        how = f"`{name_program()} spoke add {one.url} --target {settings.target}`"
        faults.append(fail(about, f"work lands on {settings.target}, not on {one.target}; register that: {how}"))
    yield from faults or [ok(about, f"{CONFIGURATION} on {one.target} has no errors")]


def _check_large_files(name: str, copy: SessionRepository, tip: str) -> Iterator[Check]:
    """Report files of Git LFS, which sessions do not transfer."""
    remote = copy.remote.remote
    if remote.uses_large_files(tip):
        what = "it uses Git LFS, whose files do not travel between hub and spokes"
        how = "keep tasks that change such files on the hub with `runs_on: local`"
        if remote.has_lfs():
            yield warn(f"{name} large files", f"{what}; {how}")
        else:
            yield fail(f"{name} large files", f"{what}, and git-lfs is not installed here; install it, and {how}")


def _add_version(check: Check, settings: Settings) -> str:
    """Return the text of a check of the agent, with the version that its program states, if it passed."""
    if check.level != "ok" or settings.wrapper or settings.agent.url:
        return check.text
    allowed = scrub(user_environment(), settings.env.agent, git_variables=local_variables(), own_bin=find_own_bin())
    command = settings.agent.program or (settings.agent.backend,)
    said = find_stated_version(command[0], allowed, allowed.get("PATH", os.defpath))
    return f"{check.text}; its version: {said}" if said else check.text


def _check_variables(name: str, settings: Settings) -> Iterator[Check]:
    """Check that the variables that the configuration passes on are set here: usually keys."""
    environment = user_environment()
    for key, wanted in (
        ("env.agent", settings.env.agent),
        ("env.setup", settings.env.setup),
        ("agent.keys", settings.agent.keys),
    ):
        missing = [one for one in wanted if not _GLOB.search(one) and not environment.get(one)]
        if missing:
            how = "put them into /etc/coordinator/environment, or wherever the worker gets its environment from"
            yield warn(f"{name} variables", f"{key} lists {', '.join(missing)}, which are not set here; {how}")
        elif wanted:
            yield ok(f"{name} variables", f"{key}: {', '.join(wanted)}")


def _check_files(name: str, place: Path, settings: Settings) -> Iterator[Check]:
    """Check that the files that `copy` lists are where this machine takes them from."""
    if missing := [path for path in settings.copy_paths if not (place / path).exists()]:
        yield warn(f"{name} files", f"`copy` lists {', '.join(missing)}, which {place} does not contain; put it there")
    elif settings.copy_paths:
        yield ok(f"{name} files", f"{', '.join(settings.copy_paths)} are taken from {place}")
