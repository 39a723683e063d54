"""Decides whether the task files that a node adds form a valid graph together with those on the head."""

from tasks_lib.errors import Fault
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.compose.commit_composer import Candidate, Landing
from tasks_lib.graph.task_graph import check_graph
from tasks_lib.landing.results import GivenBack, give_back_faults
from tasks_lib.model import LEVELS_THAT_ADD_FILES

MOST_GENERATIONS = 4
"""A plan, its parts, and their subtasks are three generations; with more, agents only plan further planning."""


def may_add_files(landing: Landing) -> bool:
    """Whether this landing may add task files; from nodes of other levels, only the node's own task file is taken."""
    return landing.commit != "" and landing.task.level in LEVELS_THAT_ADD_FILES


def find_new_faults(reader: TaskReader, candidate: Candidate) -> tuple[Fault, ...]:
    """Return the errors in the task files of `candidate` that its head does not have, sorted."""
    errors = _find_errors(reader, candidate.commit)
    return tuple(sorted(errors - _find_errors(reader, candidate.head))) if errors else ()


def _find_errors(reader: TaskReader, commit: str) -> set[Fault]:
    reading = reader.read(commit)
    return {fault for fault in (*reading.faults, *check_graph(reading.tasks)) if not fault.is_warning}


def find_new_tasks(reader: TaskReader, candidate: Candidate) -> tuple[str, ...]:
    """Return the ids of the tasks that `candidate` adds to its head."""
    known = {task.id for task in reader.read(candidate.head).tasks}
    return tuple(task.id for task in reader.read(candidate.commit).tasks if task.id not in known)


class AddedTasks:
    """The tasks that agents add in one run, and how many generations each is from a task that the user wrote.

    Each landing of a planning node is progress, so a graph in which each one adds two more would run forever.
    Therefore added tasks may add further tasks for at most `MOST_GENERATIONS` generations.
    """

    def __init__(self, reader: TaskReader) -> None:
        self._reader = reader
        self._generation: dict[str, int] = {}

    def refuse(self, candidate: Candidate, landing: Landing) -> GivenBack | None:
        """Return what the session has to change before the tasks that it adds may land, None if nothing."""
        if not may_add_files(landing):
            return None
        if faults := find_new_faults(self._reader, candidate):
            return give_back_faults([str(fault) for fault in faults], candidate.head)
        generation = self._generation.get(landing.task.id, 0)
        if generation < MOST_GENERATIONS or not find_new_tasks(self._reader, candidate):
            return None
        reason = f"it adds tasks, and was itself added {generation} planning steps below a task that a person wrote"
        return GivenBack(reason, MANY_GENERATIONS.format(reason=reason))

    def note_landed(self, candidate: Candidate, landing: Landing) -> None:
        """Record that the work of `landing` has landed with `candidate`."""
        if may_add_files(landing):
            generation = self._generation.get(landing.task.id, 0) + 1
            self._generation |= dict.fromkeys(find_new_tasks(self._reader, candidate), generation)


MANY_GENERATIONS = """Planning has been delegated too often: {reason}. Remove the task files that you added. Do the task
itself if it is small enough; otherwise do a Safe Exit, so that a person decides how to divide it."""
