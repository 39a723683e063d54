"""Decides what a run is said to have done: its exit code, and the report that a person reads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Outcome, OutcomeName, Status, Task
from tasks_lib.text import cut, fold


class ExitCode(IntEnum):
    """What a run returns to the shell."""

    COMPLETED = 0
    BLOCKED = 1
    BAD_INPUT = 2
    WAITING = 3
    INTERRUPTED = 130


EXIT_SENTENCES: Mapping[ExitCode, str] = {
    ExitCode.COMPLETED: "Every node is completed.",
    ExitCode.BLOCKED: "Something is blocked or failed; everything independent of it was worked.",
    ExitCode.BAD_INPUT: "The input cannot be used; nothing was started.",
    ExitCode.WAITING: "Nothing failed, but a person is waited for.",
    ExitCode.INTERRUPTED: "The run was interrupted; everything is saved, and running again goes on.",
}
STOPPED_EARLY = "The run stopped before its end; running again goes on."
_LINE_CHARS = 300
INCOMPLETE = "Prefect's record of this run is incomplete"
"""How the one sentence begins that says what Prefect does not have."""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One node as the report shows it; `commit` is abbreviated, `spent` in words, "" for what was not worked."""

    id: str
    name: str
    outcome: OutcomeName
    attempt: int = 0
    commit: str = ""
    reason: str = ""
    spent: str = ""


def find_exit_code(
    graph: Graph, only: Collection[str], outcomes: Mapping[str, Outcome], *, is_interrupted: bool
) -> ExitCode:
    """Judge a run by the graph at the head; `only` are the ids that were to be worked, empty for all.

    A person is waited for only if everything unfinished waits for persons alone: what is blocked or failed counts
    wherever it stands in the way, and so does a prerequisite that nobody was asked to work.
    """
    wanted = [graph.tasks[task_id] for task_id in (only or graph.tasks) if task_id in graph.tasks]
    unfinished = [task for task in wanted if not task.is_completed]
    if not unfinished:
        return ExitCode.COMPLETED
    if is_interrupted:
        return ExitCode.INTERRUPTED
    in_the_way = _find_in_the_way(graph, unfinished)
    return (
        ExitCode.WAITING if all(_waits_for_person(task, graph, outcomes) for task in in_the_way) else ExitCode.BLOCKED
    )


def _find_in_the_way(graph: Graph, unfinished: Sequence[Task]) -> list[Task]:
    """`unfinished` and every open node that they wait for, near and far, in the selection or not."""
    found = {task.id for task in unfinished}
    for task_id in reversed(graph.order()):
        if task_id in found:
            found.update(i for i in graph.prerequisites(task_id) if not graph.tasks[i].is_completed)
    return [graph.tasks[task_id] for task_id in found]


def _waits_for_person(task: Task, graph: Graph, outcomes: Mapping[str, Outcome]) -> bool:
    """Whether nothing but a person holds `task` itself; what it waits for is judged on its own."""
    if outcomes.get(task.id) or task.status in (Status.BLOCKED, Status.FAILED):
        return False
    return task.is_human or any(not graph.tasks[i].is_completed for i in task.depends_on)


def write_report(
    title: str, rows: Sequence[ReportRow], messages: Sequence[str], code: ExitCode, spent: str = ""
) -> str:
    """The report as markdown: a sentence, what all sessions `spent`, what was said aloud, and a table of the nodes."""
    counts: dict[OutcomeName, int] = {}
    for row in rows:
        counts[row.outcome] = counts.get(row.outcome, 0) + 1
    summary = ", ".join(f"{count} {outcome or 'not worked'}" for outcome, count in sorted(counts.items()))
    lines = [f"# {title}", "", f"{EXIT_SENTENCES[code]} {len(rows)} nodes: {summary}.", ""]
    if spent:
        lines += [f"The sessions of this run used {spent}.", ""]
    if messages:
        lines += ["## Said during the run", "", *(f"- {cut(fold(message), _LINE_CHARS)}" for message in messages), ""]
    lines += [
        "## Nodes",
        "",
        "| node | name | ended | attempt | spent | commit | why |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_write_row(row) for row in rows]
    return "\n".join(lines) + "\n"


def _write_row(row: ReportRow) -> str:
    attempt = str(row.attempt) if row.attempt else ""
    cells = (f"`{row.id}`", row.name, row.outcome or "not worked", attempt, row.spent, row.commit[:12], row.reason)
    return "| " + " | ".join(cut(fold(cell), _LINE_CHARS).replace("|", "\\|") for cell in cells) + " |"
