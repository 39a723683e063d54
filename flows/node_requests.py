"""What a person can ask of nodes from outside a run; the commands and the flows with these names both call this."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from flows.data_directory import find_name
from flows.request_messages import MAX_CHARS, Answer, Policy, RequestKind, UserRequest
from flows.request_sender import NoRunError, NotReceived, SentRequest, send_request
from flows.resolved_event import send_resolved
from tasks_lib.errors import BusyError, InputError
from tasks_lib.git.git_config import read_person
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock, RunLock, read_holder
from tasks_lib.landing.resolution import describe_without_run, resolve_without_run
from tasks_lib.landing.spawning import SpawnOrder, describe_spawned, spawn_without_run
from tasks_lib.model import PersonsWord, is_model_name, is_role_name
from tasks_lib.naming import show
from tasks_lib.node.landing_approval import permit_landing
from tasks_lib.node.taken_setup import find_unprepared, set_up_taken
from tasks_lib.node.taking import Taker, take_without_run
from tasks_lib.process.marked_processes import marked
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.project.loading import Project, load_project

MAX_CHANGES = 5
"""How often a run may begin or end while somebody tries to resolve a node."""


def send_message(path: Path, node: str, text: str) -> SentRequest:
    """Send `text` to the agent of `node`: during its turn if the backend supports that, else with the next prompt.

    Raises InputError if the text is empty or too long, or if no run is in progress in the repository at `path`.
    """
    if not text.strip():
        raise InputError(["the message is empty; write it in quotes after the node's id"])
    require_length(text, "the message")
    return send_request(path, UserRequest(RequestKind.MESSAGE, (node,), text))


def abort_nodes(path: Path, nodes: Sequence[str], policy: Policy = "abort-dependents") -> SentRequest:
    """Abort `nodes` and keep their work, while the others continue. Raises InputError if no run is in progress.

    `policy` says whether the tasks in progress that they have spawned are aborted too.
    """
    return send_request(path, UserRequest(RequestKind.ABORT, tuple(nodes), policy=policy))


def stop_run(path: Path) -> SentRequest:
    """Stop the run of the repository at `path` as Ctrl-C does. Raises InputError if no run is in progress."""
    return send_request(path, UserRequest(RequestKind.STOP))


def drain_run(path: Path) -> SentRequest:
    """Let the run of the repository at `path` start no more nodes. Raises InputError if no run is in progress."""
    return send_request(path, UserRequest(RequestKind.DRAIN))


def require_length(text: str, what: str) -> None:
    """Raise InputError if `text` is too long for a request."""
    if len(text) > MAX_CHARS:
        raise InputError([f"{what} is longer than {MAX_CHARS} characters; put it in a file and send its path"])


def require_assignment(word: PersonsWord) -> None:
    """Raise InputError, with both faults, if the role or the model is not written as one."""
    faults: list[str] = []
    if word.role and not is_role_name(word.role):
        faults.append(f'"{show(word.role)}" is not the name of a role, such as implementation-specialist')
    if word.model and not is_model_name(word.model):
        faults.append(f'"{show(word.model)}" is not provider/model; write it as `opencode models` lists it')
    if faults:
        raise InputError(faults)


def resolve_node(path: Path, name: str, word: PersonsWord) -> SentRequest:
    """Resolve what blocks a node, with a `word` for its agent: in the current run, or directly if there is none.

    `name` is the id of the node or of its resolve task. If that cannot be resolved, the answer says why. Raises
    InputError for a repository with faults, BusyError if something other than a run keeps the repository locked.
    """
    require_length(word.text, "the text")
    require_assignment(word)
    request = UserRequest(RequestKind.RESOLVE, (name,), word.text, role=word.role, model=word.model)
    return _ask_or_do(path, request, lambda: _resolve_directly(path, name, word))


def land_node(path: Path, name: str) -> SentRequest:
    """Let the work on a node land: in the current run, or in the next one, which has to be started then.

    It is a person's own work, or work that waits for a person (`land.ask`). If there is none, the answer says why.
    Raises as `resolve_node`.
    """
    request = UserRequest(RequestKind.LAND, (name,))
    return _ask_or_do(path, request, lambda: _permit_directly(path, name))


def take_node(path: Path, name: str, *, is_forced: bool) -> SentRequest:
    """Prepare the worktree of a person's task for the one git commits as here. Raises as `resolve_node`."""
    by = read_person(Repository.open(path).git)
    if not by:
        raise InputError(["git does not know who you are: set user.name and user.email with `git config --global`"])
    request = UserRequest(RequestKind.TAKE, (name,), by, is_forced=is_forced)
    return _ask_or_do(path, request, lambda: _take_directly(path, name, Taker(by, is_forced)))


def set_up_taken_node(path: Path, name: str, tell: Callable[[str], None]) -> Sequence[Answer]:
    """Run `setup` in the worktree of the taken task `name`, unless it has passed there; return an answer if it fails.

    `tell` is called with a sentence before it runs. Raises InputError for a repository with faults.
    """
    project = load_project(path)
    taken = find_unprepared(project, name)
    if taken is None:
        return ()
    if project.settings.setup:
        tell(f"Running `setup` in {taken.worktree.path}; its output is in {taken.log}.")
    if not (failure := set_up_taken(project, taken)):
        return ()
    how = f"Fix the cause, then run `coordinator take {name}` again, which repeats it and keeps what is in the worktree"
    return (Answer(name, False, f"`setup` failed in {taken.worktree.path}: {failure}\n{how}"),)


def _ask_or_do(path: Path, request: UserRequest, do: Callable[[], Answer]) -> SentRequest:
    """Send `request` to the current run, or `do` what it asks for if there is none."""
    repository = Repository.open(path)
    for _ in range(MAX_CHANGES):
        # A run may begin or end in between; then it is the other way round.
        with suppress(BusyError, NoRunError, NotReceived):
            if read_holder(repository.state_dir) is None:
                return SentRequest(request.kind, "", [do()])
            return send_request(path, request)
    holder = read_holder(repository.state_dir) or "another command"
    raise BusyError(f"{repository.top}: {holder} is using this repository; try again")


def spawn_task(path: Path, order: SpawnOrder) -> SentRequest:
    """Add a task to the current run. Raises NoRunError if there is none; the answer names every fault."""
    nodes = (order.task_id,) if order.task_id else ()
    return send_request(
        path, UserRequest(RequestKind.SPAWN, nodes, order.text, parent=order.spawner, session=order.session)
    )


def spawn_directly(path: Path, order: SpawnOrder) -> SentRequest:
    """Commit a task while no run is in progress, so that the next one works on it. Raises as `resolve_node` does."""
    return SentRequest(RequestKind.SPAWN, "", [_spawn_directly(path, order)])


def _spawn_directly(path: Path, order: SpawnOrder) -> Answer:
    with _locked(path, RequestKind.SPAWN) as (project, lock):
        try:
            spawned = spawn_without_run(project, lock, order)
        except InputError as error:
            return Answer(order.task_id, False, str(error))
    waits = f"; publishing it waits: {spawned.pending}" if spawned.pending else ""
    said = ". ".join((f"{describe_spawned(spawned)}{waits}", *(note.rstrip(".") for note in spawned.notes)))
    return Answer(spawned.task_id, True, said)


@contextmanager
def _locked(path: Path, kind: RequestKind) -> Generator[tuple[Project, HeldRunLock]]:
    """Yield the repository at `path`, locked as for a run. Raises BusyError if a run is in progress."""
    project = load_project(path, is_fetching=True)
    repository = project.repository
    repository.prepare()
    with (
        RunLock(repository.state_dir, kind, keeps_record=True) as lock,
        marked(REPOSITORY_MARKER, str(repository.common_dir)),
    ):
        yield project, lock


def _permit_directly(path: Path, name: str) -> Answer:
    with _locked(path, RequestKind.LAND) as (project, _):
        branch = project.name_branches().get(name, "")
        copied = project.settings.copy_paths
        try:
            permit_landing(project.repository, project.graph.tasks, name, branch, project.head, copied)
        except InputError as error:
            return Answer(name, False, str(error))
    return Answer(name, True, f"{name} may land")


def _take_directly(path: Path, name: str, taker: Taker) -> Answer:
    with _locked(path, RequestKind.TAKE) as (project, lock):
        try:
            return Answer(name, True, take_without_run(project, lock, name, taker))
        except InputError as error:
            return Answer(name, False, str(error))


def _resolve_directly(path: Path, name: str, word: PersonsWord) -> Answer:
    with _locked(path, RequestKind.RESOLVE) as (project, lock):
        try:
            resolution = resolve_without_run(project, lock, name, word)
        except InputError as error:
            return Answer(name, False, str(error))
        untold = send_resolved(resolution, word.text, find_name(project.repository.top))
        said = describe_without_run(resolution, project)
        return Answer(name, True, f"{said} {untold}" if untold else said)
