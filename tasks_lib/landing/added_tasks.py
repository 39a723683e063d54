"""Decides whether the task files that a node adds make a graph together with those of the head."""

from collections.abc import Sequence

from tasks_lib.errors import Fault
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.compose.commit_composer import Candidate, Landing
from tasks_lib.graph.task_graph import check_graph
from tasks_lib.landing.results import GivenBack
from tasks_lib.model import LEVELS_THAT_ADD_FILES
from tasks_lib.prompts.agent_prompts import MAX_LISTED
from tasks_lib.text import tell_rest

MOST_GENERATIONS = 4
"""A plan, its parts and what these are divided into are three; more is planning about planning."""


def may_add_files(landing: Landing) -> bool:
    """Whether files of this landing can change the graph; of other levels' only the node's own file is taken."""
    return landing.commit != "" and landing.task.level in LEVELS_THAT_ADD_FILES


def find_new_faults(reader: TaskReader, candidate: Candidate) -> tuple[Fault, ...]:
    """The errors in the task files of `candidate` that its head does not have, sorted."""
    errors = _find_errors(reader, candidate.commit)
    return tuple(sorted(errors - _find_errors(reader, candidate.head))) if errors else ()


def _find_errors(reader: TaskReader, commit: str) -> set[Fault]:
    reading = reader.read(commit)
    return {fault for fault in (*reading.faults, *check_graph(reading.tasks)) if not fault.is_warning}


def find_new_tasks(reader: TaskReader, candidate: Candidate) -> tuple[str, ...]:
    """The ids of the tasks that `candidate` adds to its head."""
    known = {task.id for task in reader.read(candidate.head).tasks}
    return tuple(task.id for task in reader.read(candidate.commit).tasks if task.id not in known)


class AddedTasks:
    """The tasks that agents add in one run, and how far each of them is from those that a person wrote.

    Each landing of a planning node is progress, so a graph in which each adds two more would be worked for ever.
    Therefore tasks that were added by added ones, by added ones and so on are taken for `MOST_GENERATIONS` only.
    """

    def __init__(self, reader: TaskReader) -> None:
        self._reader = reader
        self._generation: dict[str, int] = {}

    def refuse(self, candidate: Candidate, landing: Landing) -> GivenBack | None:
        """What the session has to change before the tasks that it adds may land."""
        if not may_add_files(landing):
            return None
        if faults := find_new_faults(self._reader, candidate):
            prompt = write_faults_prompt(faults, candidate.head)
            return GivenBack(f"its task files do not form a valid graph: {faults[0]}", prompt)
        generation = self._generation.get(landing.task.id, 0)
        if generation < MOST_GENERATIONS or not find_new_tasks(self._reader, candidate):
            return None
        reason = f"it adds tasks, and was itself added {generation} planning steps below a task that a person wrote"
        return GivenBack(reason, MANY_GENERATIONS.format(reason=reason))

    def note_landed(self, candidate: Candidate, landing: Landing) -> None:
        """The work of `landing` has landed with `candidate`."""
        if may_add_files(landing):
            generation = self._generation.get(landing.task.id, 0) + 1
            self._generation |= dict.fromkeys(find_new_tasks(self._reader, candidate), generation)


MANY_GENERATIONS = """Planning has been delegated too often: {reason}. Remove the task files that you added. Do the task
itself if it is small enough; otherwise do a Safe Exit, so that a person decides how to divide it."""


def write_faults_prompt(faults: Sequence[Fault], head: str) -> str:
    """The further turn of a session whose task files do not fit the graph of `head`, a commit."""
    listed = "\n".join(f"- {fault}" for fault in faults[:MAX_LISTED])
    more = tell_rest(len(faults), MAX_LISTED, "\n… and ")
    return f"""Together with the task files on the head, your task files do not form a valid graph:

{listed}{more}

To see the files as they were checked, run `git merge {head}` in your worktree (that commit is the current head, also
in $COORDINATOR_TARGET). Fix these faults in the task files that you added, and commit."""
