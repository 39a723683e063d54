"""`coordinator doctor --spoke`: checks that this machine can run sessions of runs on other machines."""

from collections.abc import Iterator

from flows.cli.commands.doctor_check import Check, Purpose, fail, ok, warn
from flows.cli.commands.doctor_machine import check_data_dir, check_prefect
from flows.cli.commands.doctor_spoke_machine import check_space
from flows.cli.commands.doctor_spoke_repository import check_repository
from flows.cli.commands.doctor_spoke_server import check_server
from flows.cli.commands.spoke_names import name_spoke
from flows.data_directory import data_dir, name_program
from flows.deployment_version import own_release
from flows.spokes.registry import SHOWN, list_remotes, list_spoke_repositories
from flows.spokes.session_labels import SESSION_POOL
from flows.spokes.worker_lock import is_worker_running
from tasks_lib.cleanup.spoke_plan import find_spoke_leftovers
from tasks_lib.errors import GitError, InputError
from tasks_lib.git.git_program import MINIMUM_VERSION, find_version
from tasks_lib.project.loading import Project
from tasks_lib.text import list_some

SESSIONS = Purpose("Ready for sessions", "a spoke")


def check_spoke_options(*, is_spoke: bool, is_audit: bool, name: str, pool: str) -> None:
    """Raise InputError naming each conflict between the options."""
    faults = ["`--spoke` and `--audit` cannot be used together; give only one"] if is_spoke and is_audit else []
    if not is_spoke and (name or pool):
        faults.append("`--name` and `--pool` only work with `--spoke`; give that too")
    if faults:
        raise InputError(faults)


def list_spoke_checks(name: str, pool: str) -> Iterator[Check]:
    """Make every check of this machine as the spoke `name` of the work pool `pool`, those first that others need."""
    chosen, pool = name_spoke(name), pool or SESSION_POOL
    yield check_data_dir()
    yield from check_prefect()
    yield ok("coordinator", f"{own_release()}; runs need the same release")
    yield _check_git()
    yield from check_server(pool, chosen)
    known = list_spoke_repositories()
    if not known:
        yield fail("repositories", f"none is registered here; do it with `{name_program()} spoke add URL`")
    projects: list[Project] = []
    for one in known.values():
        yield from check_repository(one, pool, projects.append)
    yield from check_space(projects)
    yield from _check_left()


def _check_left() -> Iterator[Check]:
    """Report what killed workers left here; a worker that runs has cleaned up."""
    if not is_worker_running(data_dir()):
        plan = find_spoke_leftovers(list_remotes(), data_dir())
        if found := [one.where for one in plan.list()]:
            how = f"the next `{name_program()} spoke start`, or `{name_program()} spoke cleanup`, removes it"
            yield warn("leftovers", f"{list_some(found, SHOWN)}: left here, or too old; {how}")
        else:
            yield ok("leftovers", "killed workers left nothing here")
        for notice in plan.notices:
            yield warn("leftovers", notice)


def _check_git() -> Check:
    try:
        found = find_version()
    except (GitError, OSError, InputError) as error:
        return fail("git", f"{error}; install git {'.'.join(map(str, MINIMUM_VERSION))} or later")
    text = ".".join(map(str, found))
    if found < MINIMUM_VERSION:
        return fail("git", f"{text} is too old; install git {'.'.join(map(str, MINIMUM_VERSION))} or later")
    return ok("git", text)
