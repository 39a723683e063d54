"""Decides a run's exit code and writes its report."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Outcome, OutcomeName, Status, Task, Waiting
from tasks_lib.text import cut, fold


class ExitCode(IntEnum):
    """What a run returns to the shell."""

    COMPLETED = 0
    BLOCKED = 1
    BAD_INPUT = 2
    WAITING = 3
    INTERRUPTED = 130


EXIT_SENTENCES: Mapping[ExitCode, str] = {
    ExitCode.COMPLETED: "Every node of this run is completed.",
    ExitCode.BLOCKED: "Something is blocked or failed; every node that does not depend on it was run.",
    ExitCode.BAD_INPUT: "The input is invalid; nothing was started.",
    ExitCode.WAITING: "Nothing failed; the run is waiting for a person.",
    ExitCode.INTERRUPTED: "The run was interrupted and everything is saved; run again to continue.",
}
STOPPED_EARLY = "The run stopped early; run again to continue."
_NAMES = {OutcomeName.NONE: "not run", OutcomeName.LANDED: "completed"}
"""What the report calls outcomes that are not one."""
_LINE_CHARS = 300
INCOMPLETE = "Prefect's record of this run is incomplete"
"""The start of the message about records that Prefect lacks; the message is recognized by it."""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One node in the report; `commit` is shown abbreviated, `spent` is text, "" for a node that did not run.

    `kind` is that of what blocks the node, "" if nothing does.
    """

    id: str
    name: str
    outcome: OutcomeName
    attempt: int = 0
    commit: str = ""
    reason: str = ""
    spent: str = ""
    kind: str = ""


def find_exit_code(
    graph: Graph,
    only: Collection[str],
    outcomes: Mapping[str, Outcome],
    *,
    is_interrupted: bool,
    is_full: bool = False,
) -> ExitCode:
    """Decide the exit code from the graph at the head; `only` are the ids that the run was limited to, empty for all.

    A run is WAITING only if all its unfinished nodes wait for nothing but people. Otherwise it is BLOCKED: by a blocked
    or failed node, in the selection or before it, or by a prerequisite that was not part of the selection. If the run
    `is_full`, because no more nodes were to land, those that it did not start wait for a person too.
    """
    wanted = [graph.tasks[task_id] for task_id in (only or graph.tasks) if task_id in graph.tasks]
    unfinished = [task for task in wanted if not task.is_completed]
    if not unfinished:
        return ExitCode.COMPLETED
    if is_interrupted:
        return ExitCode.INTERRUPTED
    in_the_way = _find_in_the_way(graph, unfinished)
    is_waiting = all(_waits_for_person(task, graph, outcomes, is_full=is_full) for task in in_the_way)
    return ExitCode.WAITING if is_waiting else ExitCode.BLOCKED


def foresee_exit_code(
    graph: Graph, only: Collection[str], outcomes: Mapping[str, Outcome], may_end: Collection[str]
) -> ExitCode:
    """Decide the exit code that a run in progress would end with as things stand: if nothing else goes wrong in it.

    `may_end` are the ids of the nodes that are running or ready. They are taken for completed, and so is each node that
    waits for nothing else, unless it is not in `only` or `outcomes` has a bad ending of it.
    """
    done: dict[str, Task] = {}
    for task_id in graph.order():
        task = graph.tasks[task_id]
        is_held = task.is_human or task.status in (Status.BLOCKED, Status.FAILED)
        is_reached = all(graph.tasks[i].is_completed or i in done for i in task.depends_on) and not is_held
        is_left_out = task_id in outcomes or (only and task_id not in only)
        if not is_left_out and (task_id in may_end or is_reached):
            done[task_id] = replace(task, status=Status.COMPLETED)
    foreseen = replace(graph, tasks={**graph.tasks, **done})
    return find_exit_code(foreseen, only, outcomes, is_interrupted=False)


def _find_in_the_way(graph: Graph, unfinished: Sequence[Task]) -> list[Task]:
    """`unfinished` and every open node that they wait for, directly or not, in the selection or not."""
    found = {task.id for task in unfinished}
    for task_id in reversed(graph.order()):
        if task_id in found:
            found.update(i for i in graph.prerequisites(task_id) if not graph.tasks[i].is_completed)
    return [graph.tasks[task_id] for task_id in found]


def _waits_for_person(task: Task, graph: Graph, outcomes: Mapping[str, Outcome], *, is_full: bool) -> bool:
    """Whether `task` itself waits only for a person; its open prerequisites are judged separately."""
    outcome = outcomes.get(task.id)
    if isinstance(outcome, Waiting):
        return True
    if outcome or task.status in (Status.BLOCKED, Status.FAILED):
        return False
    return is_full or task.is_human or any(not graph.tasks[i].is_completed for i in task.depends_on)


def write_report(
    title: str, rows: Sequence[ReportRow], messages: Sequence[str], code: ExitCode, spent: str = ""
) -> str:
    """The report as markdown: a summary, what all sessions `spent`, the run's messages, and a table of the nodes."""
    counts: dict[OutcomeName, int] = {}
    for row in rows:
        counts[row.outcome] = counts.get(row.outcome, 0) + 1
    summary = ", ".join(f"{count} {_NAMES.get(outcome, outcome)}" for outcome, count in sorted(counts.items()))
    lines = [f"# {title}", "", f"{EXIT_SENTENCES[code]} {len(rows)} nodes: {summary}.", ""]
    if spent:
        lines += [f"The sessions of this run used {spent}.", ""]
    if messages:
        lines += ["## Messages", "", *(f"- {cut(fold(message), _LINE_CHARS)}" for message in messages), ""]
    lines += [
        "## Nodes",
        "",
        "| node | name | outcome | attempt | spent | commit | reason |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_write_row(row) for row in rows]
    return "\n".join(lines) + "\n"


def _write_row(row: ReportRow) -> str:
    attempt = str(row.attempt) if row.attempt else ""
    cells = (
        f"`{row.id}`",
        row.name,
        _NAMES.get(row.outcome, row.outcome),
        attempt,
        row.spent,
        row.commit[:12],
        f"{row.kind}: {row.reason}" if row.kind else row.reason,
    )
    return "| " + " | ".join(cut(fold(cell), _LINE_CHARS).replace("|", "\\|") for cell in cells) + " |"
