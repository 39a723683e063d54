"""Decides whether the task files that a node adds make a graph together with those of the head."""

from collections.abc import Sequence

from tasks_lib.errors import Fault
from tasks_lib.git.candidate import Candidate, Landing
from tasks_lib.git.taskreader import TaskReader
from tasks_lib.graph import check_graph
from tasks_lib.model import LEVELS_THAT_ADD_FILES
from tasks_lib.prompts import MAX_LISTED


def may_add_files(landing: Landing) -> bool:
    """Whether files of this landing can change the graph; of other levels' only the node's own file is taken."""
    return landing.commit != "" and landing.task.level in LEVELS_THAT_ADD_FILES


def find_new_faults(reader: TaskReader, candidate: Candidate) -> tuple[Fault, ...]:
    """The errors in the task files of `candidate` that its head does not have, sorted. Call in a thread."""
    errors = _find_errors(reader, candidate.commit)
    return tuple(sorted(errors - _find_errors(reader, candidate.head))) if errors else ()


def _find_errors(reader: TaskReader, commit: str) -> set[Fault]:
    reading = reader.read(commit)
    return {fault for fault in (*reading.faults, *check_graph(reading.tasks)) if not fault.is_warning}


def write_faults_prompt(faults: Sequence[Fault], head: str) -> str:
    """The further turn of a session whose task files do not fit the graph of `head`, a commit."""
    listed = "\n".join(f"- {fault}" for fault in faults[:MAX_LISTED])
    more = f"\n… and {len(faults) - MAX_LISTED} more" if len(faults) > MAX_LISTED else ""
    return f"""Together with the task files that are on the other side, yours make no graph that can be worked:

{listed}{more}

To see the files as they were checked, run `git merge {head}` in your worktree (that commit is the current head, also
in $COORDINATOR_TARGET). Mend what is named in the task files that you added, and commit."""
