"""The workers for sessions that `coordinator up --spokes N` runs on this machine, as other machines run them."""

from collections.abc import Callable

from flows.data_directory import data_dir, list_repositories
from flows.local_stack.worker_process import WorkerOptions, name_worker
from flows.spokes.registry import add_repository
from flows.spokes.session_labels import SESSION_POOL
from tasks_lib.errors import CoordinatorError
from tasks_lib.git.remote_sessions.session_remote import SessionRemote
from tasks_lib.git.repository import Repository
from tasks_lib.project.loading import read_configuration

WORKER = "flows.spoke_worker.session_worker"
LOG = "worker.log"


def describe_session_worker(number: int) -> WorkerOptions:
    """The worker `number`, counted from 1; it has a data directory of its own, as on another machine."""
    data = data_dir() / "local-spokes" / str(number)
    (data / "spokes").mkdir(parents=True, exist_ok=True)
    arguments = ("--pool", SESSION_POOL, "--name", f"{name_worker()}-{number}")
    return WorkerOptions(WORKER, arguments, data / "spokes" / LOG, data, "session")


def register_repositories(count: int, tell: Callable[[str], None]) -> None:
    """Register every repository whose configuration names `spokes.remote` with the workers 1 to `count`."""
    for name, place in list_repositories().items():
        try:
            repository = Repository.open(place)
            settings, _, target = read_configuration(repository, {})
            if not settings.spokes.remote:
                continue
            remote = SessionRemote(repository, settings.spokes.remote, target)
            remote.remote.require()
            for number in range(1, count + 1):
                data = describe_session_worker(number).data
                add_repository(remote.read_url(), settings.spokes.repository or remote.name_repository(), target, data)
        except CoordinatorError as error:
            tell(f"Sessions of {name} cannot run in workers of their own: {error}")
