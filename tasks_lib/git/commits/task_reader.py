"""Reads the task files in a commit; files unchanged since the last reading are not read again."""

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass

from tasks_lib.errors import Fault, InputError
from tasks_lib.git.objects.object_database import Entry, Objects
from tasks_lib.graph.task_graph import check_graph
from tasks_lib.model import Task
from tasks_lib.naming import MAX_MESSAGE, show
from tasks_lib.taskfile.parsing import decode, parse_task, sketch_task

SUFFIX = ".md"
_CACHED_READINGS = 16
_NO_PATH = re.compile(r"(?:^|/)(?:\.{0,2}|\.git)(?:/|$)", re.IGNORECASE)
_SUBMODULE = "160000"
_SPECIAL = {"120000": "a symbolic link", _SUBMODULE: "a submodule"}

_Parsed = tuple[Task | None, tuple[Fault, ...]]


@dataclass(frozen=True, slots=True)
class Reading:
    """The task files in `commit`, sorted by path, and their errors and warnings.

    Files without front matter are not task files and are skipped silently. `sketches` are what could be read of files
    with errors: they are used only to check the graph.
    """

    commit: str
    tasks: tuple[Task, ...]
    faults: tuple[Fault, ...]
    sketches: tuple[Task, ...] = ()

    def find_faults(self) -> tuple[Fault, ...]:
        """Return all faults: those of single files and those of the graph."""
        return (*self.faults, *check_graph((*self.tasks, *self.sketches)))

    def find(self, task_id: str) -> Task | None:
        """Return the task with that id, or None."""
        return next((task for task in self.tasks if task.id == task_id), None)


def find_name_fault(path: str) -> Fault | None:
    """Return a warning if a path, from git or disk, cannot be used in messages, commits and environment variables."""
    # Git does not create a tree with such a name, but reads one that another program created.
    if _NO_PATH.search(path):
        return _warn(show(_unescape(path), MAX_MESSAGE), "has a path that cannot be checked out, so it is skipped")
    if path.isprintable():
        return None
    is_decoded = not any("\ud800" <= one <= "\udfff" for one in path)
    what = "with invisible characters" if is_decoded else "that is not UTF-8"
    return _warn(show(_unescape(path), MAX_MESSAGE), f"has a name {what}, so it is skipped; rename it")


def _unescape(path: str) -> str:
    """Return `path` with bytes that are not UTF-8 written as `\\xe9`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class TaskReader:
    """Reads the task files below `tasks_dir` (relative to the top; "." is the top) at any commit; thread-safe.

    `target` is the branch to name in the message about a missing folder.
    """

    def __init__(self, objects: Objects, tasks_dir: str, target: str = "") -> None:
        self._objects: Objects = objects
        self.tasks_dir: str = "/".join(part for part in tasks_dir.split("/") if part not in ("", "."))
        self._target: str = target
        self._lock: threading.Lock = threading.Lock()
        self._parsed: dict[tuple[str, Entry], _Parsed] = {}
        self._readings: OrderedDict[str, Reading] = OrderedDict()

    def read(self, commit: str) -> Reading:
        """Read every task file at `commit` (an object id), recursively.

        Files with errors are not among the tasks. Raises InputError if the folder does not exist.
        """
        with self._lock:
            if commit in self._readings:
                self._readings.move_to_end(commit)
                return self._readings[commit]
            reading = self._read(commit)
            self._readings[commit] = reading
            while len(self._readings) > _CACHED_READINGS:
                self._readings.popitem(last=False)
            return reading

    def text(self, commit: str, path: str) -> str | None:
        """Return the text of the file at `path`, or None if there is none; bytes that are not UTF-8 become `?`."""
        entry = self._objects.find_entry(commit, path)
        if entry is None or not entry.is_file:
            return None
        return decode(self._objects.read(entry.oid)).encode("utf-8", "replace").decode()

    def covers(self, path: str) -> bool:
        """Whether `path` is a Markdown file below the task folder."""
        return path.endswith(SUFFIX) and (not self.tasks_dir or path.startswith(f"{self.tasks_dir}/"))

    def is_task_file(self, path: str, entry: Entry) -> bool:
        """Whether `entry` is a regular file with front matter, valid or not."""
        if not entry.is_file:
            return False
        task, faults = parse_task(self._objects.read(entry.oid), path, entry.oid)
        return task is not None or bool(faults)

    def parse(self, path: str, entry: Entry) -> tuple[Task | None, tuple[Fault, ...]]:
        """Parse the file `entry` at `path` into its task and faults; (None, ()) for a file without front matter."""
        return _find_obstacle(path, entry) or parse_task(self._objects.read(entry.oid), path, entry.oid)

    def _read(self, commit: str) -> Reading:
        folder = self._objects.find_entry(commit, self.tasks_dir)
        if folder is None or not folder.is_tree:
            raise InputError([self._describe_missing(commit, folder)])
        tasks: list[Task] = []
        faults: list[Fault] = []
        broken: list[tuple[str, Entry]] = []
        self._parsed = self._parse_all(self._list_files(commit, faults))
        for (path, entry), (task, found) in self._parsed.items():
            faults.extend(found)
            if task:
                tasks.append(task)
            elif any(not fault.is_warning for fault in found) and entry.is_file:
                broken.append((path, entry))
        sketches = (sketch_task(self._objects.read(entry.oid), path, entry.oid)[0] for path, entry in broken)
        found_tasks = tuple(sorted(tasks, key=lambda task: task.path))
        return Reading(commit, found_tasks, tuple(sorted(faults)), tuple(sketch for sketch in sketches if sketch))

    def _list_files(self, commit: str, faults: list[Fault]) -> list[tuple[str, Entry]]:
        """List all entries named like a task file at `commit`; append a warning to `faults` for each submodule."""
        files: list[tuple[str, Entry]] = []
        for path, entry in self._objects.walk(commit, self.tasks_dir):
            if path.endswith(SUFFIX):
                files.append((path, entry))
            elif entry.mode == _SUBMODULE:
                faults.append(warn_special(show(_unescape(path)), _describe(entry)))
        return files

    def _parse_all(self, files: list[tuple[str, Entry]]) -> dict[tuple[str, Entry], _Parsed]:
        """Parse each of `files`, in order; files that were in the last reading are not parsed again.

        The results for other files are dropped: a path has one blob at a time, and the next reading differs little.
        """
        parsed: dict[tuple[str, Entry], _Parsed | None] = {file: self._parsed.get(file) for file in files}
        unread: list[tuple[str, Entry]] = []
        for file in (file for file, known in parsed.items() if known is None):
            parsed[file] = found = _find_obstacle(*file)
            if found is None:
                unread.append(file)
        contents = self._objects.read_each([entry.oid for _, entry in unread])
        for (path, entry), data in zip(unread, contents, strict=True):
            parsed[path, entry] = parse_task(data, path, entry.oid)
        return {file: found for file, found in parsed.items() if found}

    def _describe_missing(self, commit: str, found: Entry | None) -> str:
        where = f'The branch "{self._target}"' if self._target else "The commit"
        what = f"; that path is {_describe(found)}" if found else ""
        return (
            f'{where} (at {commit[:10]}) has no folder "{self.tasks_dir}"{what}. '
            "Commit the task files there, or set `tasks_dir` in coordinator.yaml to their folder."
        )


def _find_obstacle(path: str, entry: Entry) -> _Parsed | None:
    """Return the warning for a file that must be skipped; None for one to read."""
    if fault := find_name_fault(path):
        return None, (fault,)
    return None if entry.is_file else (None, (warn_special(path, _describe(entry)),))


def _describe(entry: Entry) -> str:
    return "a file" if entry.is_file else _SPECIAL.get(entry.mode, f"an entry of mode {entry.mode}")


def warn_special(path: str, what: str) -> Fault:
    """Return the warning that `path` is `what` and therefore skipped."""
    return _warn(path, f"is {what}, so it is skipped; task files must be regular files")


def _warn(path: str, message: str) -> Fault:
    return Fault(path, 0, message, is_warning=True)
