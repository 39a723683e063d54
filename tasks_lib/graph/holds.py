"""Says in words why a node of a run does not start: for itself, and as the cause why others wait."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from tasks_lib.graph.graph_changes import find_open
from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Aborted, Blocked, Checked, Failed, Merged, Outcome, Skipped, Task, Waiting
from tasks_lib.naming import is_resolve_task

CAUSES_SHOWN = 3
"""A reason is one sentence, which more than three root causes would make unreadable."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a node itself may not start: as a predicate of the node, and as a clause after `needs <id>, which`."""

    wait: str
    cause: str


def describe_ending(outcome: Merged | Checked | Failed | Aborted | Skipped | Waiting) -> Hold:
    match outcome:
        case Merged() | Checked():
            return Hold("has landed, but the head does not show it yet", "landed, but is not completed at the head")
        case Failed():
            return Hold(f"failed in this run: {_cut(outcome.reason)}", "failed")
        case Aborted():
            return Hold(f"was aborted in this run: {_cut(outcome.reason)}", "was aborted")
        case Skipped():
            return Hold(f"was skipped in this run: {_cut(outcome.reason)}", "was skipped")
        case Waiting():
            return Hold(
                _cut(outcome.reason), "waits for the next run" if outcome.is_postponed else "waits for a person"
            )
        case _:
            assert_never(outcome)


def explain_blocked(task: Task, outcome: Outcome | None, graph: Graph) -> str:
    waits = [task_id for task_id in find_open(task, graph) if is_resolve_task(task_id)]
    if isinstance(outcome, Blocked) and outcome.resolve_id and outcome.resolve_id not in graph.tasks:
        waits.append(outcome.resolve_id)  # The graph that contains the new task has not been read yet.
    if waits:
        return f"is blocked; waits for {', '.join(dict.fromkeys(waits))}"
    if isinstance(outcome, Blocked):
        return f"is blocked: {_cut(outcome.reason)}"
    return "is blocked; set its status to pending to run it again"


def tell_causes(causes: Sequence[tuple[str, str]]) -> str:
    """`needs a, which is blocked; needs b, which failed`."""
    told = "; ".join(f"needs {task_id}, which {clause}" for task_id, clause in causes[:CAUSES_SHOWN])
    return f"{told}; and more" if len(causes) > CAUSES_SHOWN else told


def _cut(reason: str) -> str:
    """The first line of a reason, which may contain a log."""
    return next(iter(reason.strip().splitlines()), "no reason was given")
