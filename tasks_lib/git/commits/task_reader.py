"""Reads the task files of a commit: what has not changed since the last reading is not read again."""

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
    """The task files of `commit`, sorted by path, and what is wrong or odd with them.

    Files without front matter are no task files, and are passed over in silence. `sketches` are what could be read of
    files with faults: they count when faults of the graph are looked for, and for nothing else.
    """

    commit: str
    tasks: tuple[Task, ...]
    faults: tuple[Fault, ...]
    sketches: tuple[Task, ...] = ()

    def find_faults(self) -> tuple[Fault, ...]:
        """Everything that is wrong with the files, alone and together."""
        return (*self.faults, *check_graph((*self.tasks, *self.sketches)))

    def find(self, task_id: str) -> Task | None:
        """The task of that id, or None."""
        return next((task for task in self.tasks if task.id == task_id), None)


def find_name_fault(path: str) -> Fault | None:
    """A warning if the path of a file, from git or the disk, cannot be written into messages, commits and variables."""
    # Git makes no tree with such a name, and reads one that somebody else made.
    if _NO_PATH.search(path):
        return _warn(show(_unescape(path), MAX_MESSAGE), "has a path that cannot be checked out, so it is skipped")
    if path.isprintable():
        return None
    is_decoded = not any("\ud800" <= one <= "\udfff" for one in path)
    what = "with invisible characters" if is_decoded else "that is not UTF-8"
    return _warn(show(_unescape(path), MAX_MESSAGE), f"has a name {what}, so it is skipped; rename it")


def _unescape(path: str) -> str:
    """`path` with bytes that are not UTF-8 as `\\xe9`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class TaskReader:
    """Reads `tasks_dir` (relative to the top; "." is the top itself) at any commit; several threads may read at once.

    `target` is the branch that a message about a missing folder names.
    """

    def __init__(self, objects: Objects, tasks_dir: str, target: str = "") -> None:
        self._objects: Objects = objects
        self.tasks_dir: str = "/".join(part for part in tasks_dir.split("/") if part not in ("", "."))
        self._target: str = target
        self._lock: threading.Lock = threading.Lock()
        self._parsed: dict[tuple[str, Entry], _Parsed] = {}
        self._readings: OrderedDict[str, Reading] = OrderedDict()

    def read(self, commit: str) -> Reading:
        """Every task file at `commit` (an object id), recursively.

        Raises InputError if the folder is not there. Files with errors are not among the tasks.
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
        """The text of the file at `path`, or None if there is none; bytes that are not UTF-8 become `?`."""
        entry = self._objects.find_entry(commit, path)
        if entry is None or not entry.is_file:
            return None
        return decode(self._objects.read(entry.oid)).encode("utf-8", "replace").decode()

    def covers(self, path: str) -> bool:
        """Whether `path` is a markdown file below the folder of task files."""
        return path.endswith(SUFFIX) and (not self.tasks_dir or path.startswith(f"{self.tasks_dir}/"))

    def is_task_file(self, path: str, entry: Entry) -> bool:
        """Whether `entry` is a plain file with front matter, be it right or wrong."""
        if not entry.is_file:
            return False
        task, faults = parse_task(self._objects.read(entry.oid), path, entry.oid)
        return task is not None or bool(faults)

    def parse(self, path: str, entry: Entry) -> tuple[Task | None, tuple[Fault, ...]]:
        """The task in the file `entry` at `path`; (None, ()) for a file without front matter."""
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
        """Whatever has the name of a task file at `commit`; `faults` gets what is said of anything else."""
        files: list[tuple[str, Entry]] = []
        for path, entry in self._objects.walk(commit, self.tasks_dir):
            if path.endswith(SUFFIX):
                files.append((path, entry))
            elif entry.mode == _SUBMODULE:
                faults.append(warn_special(show(_unescape(path)), _describe(entry)))
        return files

    def _parse_all(self, files: list[tuple[str, Entry]]) -> dict[tuple[str, Entry], _Parsed]:
        """What each of `files` says, in their order; what the last reading held is not read again.

        A path has one blob at a time, so what is not among them is dropped: the next reading is a small step on.
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
    """What is said of a file that is not read; None for one that is."""
    if fault := find_name_fault(path):
        return None, (fault,)
    return None if entry.is_file else (None, (warn_special(path, _describe(entry)),))


def _describe(entry: Entry) -> str:
    return "a file" if entry.is_file else _SPECIAL.get(entry.mode, f"an entry of mode {entry.mode}")


def warn_special(path: str, what: str) -> Fault:
    """The warning that `path` is `what`, and no task file therefore."""
    return _warn(path, f"is {what}, so it is skipped; task files must be regular files")


def _warn(path: str, message: str) -> Fault:
    return Fault(path, 0, message, is_warning=True)
