"""Reads the task files of a commit: what has not changed since the last reading is not read again."""

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass

from tasks_lib.errors import Fault, InputError
from tasks_lib.git.objects import Entry, Objects
from tasks_lib.graph import check_graph
from tasks_lib.model import Task
from tasks_lib.naming import MAX_MESSAGE, show
from tasks_lib.taskfile import decode, parse_task, sketch_task

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
        return _warn(show(_unescape(path), MAX_MESSAGE), "has a path that no checkout can have, so it is passed over")
    if path.isprintable():
        return None
    is_decoded = not any("\ud800" <= one <= "\udfff" for one in path)
    what = "with characters that cannot be seen" if is_decoded else "that is not UTF-8"
    return _warn(show(_unescape(path), MAX_MESSAGE), f"has a name {what}, so it is passed over; rename it")


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
        self._parsed: dict[tuple[str, str], _Parsed] = {}
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
        return self._parse(path, entry)

    def _read(self, commit: str) -> Reading:
        folder = self._objects.find_entry(commit, self.tasks_dir)
        if folder is None or not folder.is_tree:
            raise InputError([self._describe_missing(commit, folder)])
        tasks: list[Task] = []
        faults: list[Fault] = []
        broken: list[tuple[str, Entry]] = []
        parsed: dict[tuple[str, str], _Parsed] = {}
        for path, entry in self._objects.walk(commit, self.tasks_dir):
            if not path.endswith(SUFFIX):
                if entry.mode == _SUBMODULE:
                    faults.append(warn_special(show(_unescape(path)), _describe(entry)))
                continue
            key = (path, entry.oid)
            parsed[key] = self._parsed.get(key) or self._parse(path, entry)
            task, found = parsed[key]
            faults.extend(found)
            if task:
                tasks.append(task)
            elif any(not fault.is_warning for fault in found) and entry.is_file:
                broken.append((path, entry))
        # A path has one blob at a time, so what this commit does not hold is dropped: the next one is a small step on.
        self._parsed = parsed
        sketches = (sketch_task(self._objects.read(entry.oid), path, entry.oid)[0] for path, entry in broken)
        found_tasks = tuple(sorted(tasks, key=lambda task: task.path))
        return Reading(commit, found_tasks, tuple(sorted(faults)), tuple(sketch for sketch in sketches if sketch))

    def _parse(self, path: str, entry: Entry) -> _Parsed:
        if fault := find_name_fault(path):
            return None, (fault,)
        if not entry.is_file:
            return None, (warn_special(path, _describe(entry)),)
        return parse_task(self._objects.read(entry.oid), path, entry.oid)

    def _describe_missing(self, commit: str, found: Entry | None) -> str:
        where = f'The branch "{self._target}"' if self._target else "The commit"
        what = f"; what is called so is {_describe(found)}" if found else ""
        return (
            f'{where} (at {commit[:10]}) has no folder "{self.tasks_dir}"{what}. '
            "Commit the task files there, or name their folder with `tasks_dir` in coordinator.yaml."
        )


def _describe(entry: Entry) -> str:
    return "a file" if entry.is_file else _SPECIAL.get(entry.mode, f"an entry of mode {entry.mode}")


def warn_special(path: str, what: str) -> Fault:
    """The warning that `path` is `what`, and no task file therefore."""
    return _warn(path, f"is {what}; task files are plain files, so it is passed over")


def _warn(path: str, message: str) -> Fault:
    return Fault(path, 0, message, is_warning=True)
