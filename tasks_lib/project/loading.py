"""Loads a repository's configuration and the graph at the head, and reports all faults at once."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import Fault, GitError, InputError
from tasks_lib.git.commits.task_reader import (
    SUFFIX,
    Reading,
    TaskReader,
    find_name_fault,
    warn_special,
)
from tasks_lib.git.inspection.checkout_files import list_uncommitted
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.publish.checkout_fast_forward import read_reason
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.publish.remote_branch import Remote
from tasks_lib.git.ref_names import HEADS, branch_ref
from tasks_lib.git.repository import Repository
from tasks_lib.graph.task_graph import Graph, build_graph, check_graph
from tasks_lib.model import Task
from tasks_lib.naming import find_branch_fault, find_collision, name_branches, show
from tasks_lib.project.target_base import find_unpushed, open_head, open_remote, require_remote
from tasks_lib.settings.schema import Settings, read_settings, read_taskgraph_tasks_dir
from tasks_lib.settings.value_types import check_path
from tasks_lib.taskfile.parsing import MAX_BYTES, sketch_task
from tasks_lib.text import tell_rest
from tasks_lib.yaml_nodes import Scalar, read_yaml

CONFIGURATION = "coordinator.yaml"
TASKGRAPH = ".taskgraph.toml"
DEFAULT_TASKS_DIR = "tasks"
SHOWN_FAULTS = 100
"""In output for users, further faults are only counted: after fixing a hundred, they validate again anyway."""


@dataclass(frozen=True, slots=True)
class Project:
    """A repository at the start of a run. `graph` was read from the commit `head`; `warnings` do not prevent a run."""

    repository: Repository
    settings: Settings
    target: str
    tasks_dir: str
    head: str
    graph: Graph
    warnings: tuple[Fault, ...]

    def name_branches(self) -> dict[str, str]:
        """Return the branch of each task id."""
        return name_branches(self.graph.tasks.values(), self.settings.branch_prefix, target=self.target)

    def open_head(self, on_foreign_move: Callable[[str], None] | None = None) -> Head:
        """Open the head on which the configuration lands work; `on_foreign_move` as in `Head`."""
        return open_head(self.repository, self.settings, self.target, on_foreign_move)

    def open_remote(self) -> Remote | None:
        """Return the remote that work lands on, None if nothing is pushed."""
        return open_remote(self.repository, self.settings, self.target)

    @property
    def is_remote(self) -> bool:
        """Whether work lands on a remote."""
        return self.settings.land.mode != "local"

    @property
    def base_name(self) -> str:
        """The user's name for the base: `main` or `origin/main`."""
        return self.settings.land.base_name(self.target)

    @property
    def where(self) -> str:
        """The base as read-only commands describe it: `main` or `origin/main as it was last fetched`."""
        return f"{self.base_name} as it was last fetched" if self.is_remote else self.base_name


def load_project(path: Path, environment: Mapping[str, str] | None = None, *, is_fetching: bool = False) -> Project:
    """Load the repository at `path`. Raises InputError naming every fault in the configuration and the task files.

    If work lands on a remote, the graph is the one last fetched from it; with `is_fetching` it is fetched first.
    """
    repository = Repository.open(path)
    try:
        settings, tasks_dir, target = read_configuration(repository, os.environ if environment is None else environment)
    except InputError as error:
        raise InputError(bound_faults({*error.faults, *_find_task_faults(repository)})) from error
    if remote := open_remote(repository, settings, target):
        require_remote(remote, is_fetching=is_fetching)
    head = open_head(repository, settings, target).current()
    passed_over = list(find_passed_over(repository, path))
    try:
        reading = _read_tasks(repository, head, tasks_dir, target)
    except InputError as error:
        raise InputError([*error.faults, *passed_over]) from error
    faults = (*reading.find_faults(), *find_branch_faults(reading.tasks, settings, target))
    errors = [fault for fault in faults if not fault.is_warning]
    if errors:
        raise InputError(bound_faults(errors))
    warnings = [fault for fault in faults if fault.is_warning] + passed_over
    warnings += find_uncommitted(repository, tasks_dir) + find_claimed(reading.tasks)
    warnings += find_unpushed(repository, settings, target, head)
    graph = build_graph(reading.tasks)
    return Project(repository, settings, target, tasks_dir, head, graph, tuple(bound_faults(warnings)))


def find_passed_over(repository: Repository, path: Path) -> Iterator[Fault]:
    """Yield a warning for each configuration file from `path` up to below the top of the checkout: none is read."""
    here = path.resolve()
    top = next((place for place in (here, *here.parents) if (place / ".git").exists()), here)
    for folder in [place for place in (here, *here.parents) if place.is_relative_to(top) and place != top]:
        name = folder.relative_to(top).as_posix()
        if (folder / CONFIGURATION).is_file():
            advice = f"move its settings there, with `tasks_dir: {name}/{DEFAULT_TASKS_DIR}` if its task files stay"
            message = f"is not read, because only the one at the top of the repository is; {advice}"
            yield Fault(f"{name}/{CONFIGURATION}", 0, message, is_warning=True)


def bound_faults(faults: Iterable[Fault]) -> list[Fault]:
    """Return `faults`, sorted; beyond `SHOWN_FAULTS`, one more says how many others there are and where they start."""
    found = sorted(faults)
    if len(found) <= SHOWN_FAULTS:
        return found
    first = found[SHOWN_FAULTS]
    message = (
        f"{tell_rest(len(found), SHOWN_FAULTS, '… and ')} from here on; `coordinator validate --json` lists them all"
    )
    return [*found[:SHOWN_FAULTS], Fault(first.path, first.line, message, first.is_warning)]


def _read_tasks(repository: Repository, head: str, tasks_dir: str, target: str) -> Reading:
    objects = Objects(repository.git)
    try:
        return TaskReader(objects, tasks_dir, target).read(head)
    finally:
        objects.close()


def _find_task_faults(repository: Repository) -> list[Fault]:
    """Return the faults of the task files in their most likely folder; for when the configuration cannot be read."""
    try:
        branch = repository.default_target()
        head = Head(repository.git, branch).current()
        reading = _read_tasks(repository, head, _find_tasks_dir(repository, branch), branch)
    except InputError:
        return []
    return [fault for fault in reading.find_faults() if not fault.is_warning]


def find_branch_faults(tasks: Sequence[Task], settings: Settings, target: str) -> Iterator[Fault]:
    """Yield a fault for a task whose branch cannot exist next to the target, e.g. `feat/x` next to `feat`."""
    names = name_branches(tasks, settings.branch_prefix, target=target)
    found = find_collision(target, names.values())
    for task in tasks:
        if names[task.id] == found:
            message = f'id "{task.id}" needs branch {found}, which git cannot create next to target {target}'
            fix = "set another branch_prefix or target in coordinator.yaml"
            yield Fault(task.path, task.lines.get("id", 0), f"{message}; {fix}")


def guess_tasks_dir(repository: Repository, environment: Mapping[str, str]) -> str:
    """Return the most likely folder of the task files; for when the configuration has faults."""
    chosen: object = environment.get("COORDINATOR_TASKS_DIR")
    try:
        if not chosen:
            text = _read_either(repository, CONFIGURATION, _find_reading_branch(repository))
            table, _ = read_yaml(text or "", CONFIGURATION)
            pairs = table.pairs if table else ()
            found = (value for key, value in pairs if key.value == "tasks_dir")
            chosen = next((value.value for value in found if isinstance(value, Scalar)), None)
        return check_path(chosen or DEFAULT_TASKS_DIR)
    except (InputError, ValueError):
        return DEFAULT_TASKS_DIR


def _find_tasks_dir(repository: Repository, branch: str, commit: str | None = None) -> str:
    text = _read_either(repository, TASKGRAPH, branch, commit)
    return (read_taskgraph_tasks_dir(text, TASKGRAPH) if text else None) or DEFAULT_TASKS_DIR


def read_configuration(repository: Repository, environment: Mapping[str, str]) -> tuple[Settings, str, str]:
    """Return settings, task folder and target; a file that the checkout lacks is read from the target branch."""
    branch = _find_reading_branch(repository)
    text = _read_either(repository, CONFIGURATION, branch)
    settings = read_settings(text or "", CONFIGURATION, environment)
    target = settings.target or branch or repository.default_target()
    ref, commit = repository.git.locate(branch_ref(target))
    # Work that lands on a remote needs no local branch.
    if settings.land.mode == "local" and commit is None:
        raise InputError([Fault(CONFIGURATION, 0, _describe_no_branch(repository, target))])
    target = _check_alias(ref, target) if commit else target
    tasks_dir = (settings.tasks_dir or _find_tasks_dir(repository, target, commit)).strip("/")
    if fault := settings.report.find_fault(tasks_dir):
        raise InputError([Fault(CONFIGURATION, 0, fault)])
    return settings, tasks_dir, target


def _find_reading_branch(repository: Repository) -> str:
    """Return the branch to read the configuration from, "" if the checkout has it: that may have no branch at all."""
    return "" if os.path.lexists(repository.top / CONFIGURATION) else repository.default_target()


def _describe_no_branch(repository: Repository, target: str) -> str:
    """Return the message for a configured target that is not a local branch."""
    told = f'target is "{target}", which is not a branch of this repository'
    if repository.git.resolve(f"refs/tags/{target}"):
        return f"{told} but a tag; set it to a branch"
    if repository.git.resolve(f"refs/remotes/{target}"):
        remote, _, branch = target.partition("/")
        how = f'create the branch "{branch}" here, or set land to {{mode: push, remote: {remote}}}'
        return f"{told} but a branch of a remote; {how}"
    return f"{told}; set it to one that is"


def _check_alias(ref: str, target: str) -> str:
    """Return the branch of `ref`, the ref that `target` is or points to. Raises InputError if that is not usable."""
    name = ref.removeprefix(HEADS)
    fault = find_branch_fault(name) if ref.startswith(HEADS) else "is not a branch"
    if not fault:
        return name
    if name == target:
        raise InputError([f'the target is "{name}", which {fault}; rename that branch, or set `target` to another'])
    raise InputError([f'the branch "{target}" is a symbolic ref to {ref}, which {fault}; set `target` to a branch'])


def _read_either(repository: Repository, name: str, branch: str, commit: str | None = None) -> str | None:
    """Return the text of the file `name` at the top level of the checkout, or of `branch` if the checkout has none.

    `commit` is the tip of `branch`, if it is known.
    Raises InputError unless it is a regular UTF-8 file inside the repository.
    """
    file = repository.top / name
    if os.path.lexists(file):
        data = _read_checked_out(repository, file)
    else:
        data = _read_committed(repository, name, branch, commit or repository.branch_head(branch))
    try:
        return None if data is None else data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        message = f"the byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise InputError([Fault(name, line, message)]) from error


def _read_checked_out(repository: Repository, file: Path) -> bytes:
    """Return the content of `file`. Raises InputError if the path is not a regular file."""
    try:
        if not file.resolve().is_relative_to(repository.top):
            message = "is a symbolic link that points outside the repository; replace it with the file itself"
        elif not file.is_file():
            message = "is not a regular file, or is a broken link; replace or remove it"
        elif file.stat().st_size > MAX_BYTES:
            message = f"has more than {MAX_BYTES} bytes; shorten it"
        else:
            return file.read_bytes()
    except (OSError, RuntimeError) as error:  # A loop of links raises RuntimeError.
        message = f"cannot be read: {show(getattr(error, 'strerror', None) or str(error))}"
    raise InputError([Fault(file.name, 0, message)])


def _read_committed(repository: Repository, name: str, branch: str, commit: str | None) -> bytes | None:
    if commit is None:
        return None
    with Objects(repository.git) as objects:
        entry = objects.find_entry(commit, name)
        if entry and not entry.is_file:
            message = f"is a link, a folder or a submodule on {branch}; commit a regular file in its place"
            raise InputError([Fault(name, 0, message)])
        return objects.read(entry.oid) if entry else None


def find_uncommitted(repository: Repository, tasks_dir: str) -> list[Fault]:
    """Return a warning for each task file with uncommitted changes, which are not part of the graph."""
    if repository.top == repository.common_dir:
        return []
    try:
        paths = [path for path in list_uncommitted(repository.git, tasks_dir) if path.endswith(SUFFIX)]
    except GitError as error:
        said = read_reason(error.stderr)
        return [Fault("", 0, f"git cannot say whether task files have uncommitted changes: {said}", True)]
    message = "has uncommitted changes; the graph is read from what is committed"
    return [find_name_fault(path) or Fault(path, 0, message, True) for path in paths]


def find_claimed(tasks: tuple[Task, ...]) -> list[Fault]:
    """Return a warning for each task whose status is `in-progress`: it is not running here, so it counts as pending."""
    return [
        Fault(task.path, task.lines.get("status", 0), "status is in-progress; it counts as pending", True)
        for task in tasks
        if task.status == "in-progress"
    ]


def read_checkout(repository: Repository, tasks_dir: str) -> tuple[tuple[Task, ...], tuple[Fault, ...]]:
    """Read the task files in the checkout, committed or not, for a user who is writing them.

    Files with faults are included as far as they could be read.
    """
    top = repository.top
    _require_folder(top, tasks_dir)
    tasks: list[Task] = []
    faults: list[Fault] = []
    for file in _walk(top / tasks_dir, faults, top):
        task, found = _read_task_file(file, file.relative_to(top).as_posix())
        faults += found
        tasks += [task] if task else []
    return tuple(tasks), (*faults, *check_graph(tasks))


def _read_task_file(file: Path, path: str) -> tuple[Task | None, tuple[Fault, ...]]:
    if fault := find_name_fault(path):
        return None, (fault,)
    if file.is_symlink() or not file.is_file():
        return None, (warn_special(path, "a symbolic link" if file.is_symlink() else "not a regular file"),)
    try:
        with file.open("rb") as stream:
            # Reads one byte more than allowed, to detect a file that is too large.
            return sketch_task(stream.read(MAX_BYTES + 1), path)
    except OSError as error:
        return None, (Fault(path, 0, f"cannot be read: {error.strerror}"),)


def _require_folder(top: Path, tasks_dir: str) -> None:
    """Raise InputError unless `tasks_dir` is a folder that belongs to the checkout at `top`."""
    place = top
    for part in tasks_dir.split("/"):
        place /= part
        name = place.relative_to(top)
        what = ""
        if place.is_symlink():
            what = "is a symbolic link, whose files are not in git; replace it with the folder, or set tasks_dir"
        elif not place.exists():
            what = "does not exist; create it, or set tasks_dir"
        elif not place.is_dir():
            what = "is not a folder; move the task files into one, or set tasks_dir"
        elif os.path.lexists(place / ".git"):
            what = "is a separate repository, such as a submodule, where nothing can land; set tasks_dir"
        if what:
            raise InputError([f'The folder "{tasks_dir}" cannot be read in {top}: {name} {what}'])


def _walk(folder: Path, faults: list[Fault], top: Path) -> Iterator[Path]:
    """Yield every Markdown file below `folder`, sorted; links and nested repositories are not followed."""

    def note(error: OSError) -> None:
        path = os.path.relpath(error.filename, top)
        faults.append(find_name_fault(path) or Fault(path, 0, f"cannot be read: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=note):
        here = Path(place)
        nested = [name for name in folders if os.path.lexists(here / name / ".git")]
        paths = [(here / name).relative_to(top).as_posix() for name in nested]
        faults += [find_name_fault(path) or warn_special(path, "a separate repository") for path in paths]
        folders[:] = sorted(set(folders) - {".git", *nested})
        yield from (here / name for name in sorted(files) if name.endswith(SUFFIX))
