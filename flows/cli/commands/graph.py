"""`coordinator graph`: draws the graph at the head, coloured by the results of the last run."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from flows.cli.commands.option_values import Format
from flows.cli.commands.repository_snapshot import Snapshot, find_outcomes, read_snapshot
from flows.cli.display.output import count, print_json, say
from tasks_lib.errors import InputError
from tasks_lib.graph.drawing import draw_dot, draw_mermaid, draw_svg
from tasks_lib.graph.task_graph import Graph, build_graph
from tasks_lib.model import OutcomeName, Status
from tasks_lib.reporting.run_report import ExitCode

SUFFIXES = {
    ".svg": Format.SVG, ".mmd": Format.MERMAID, ".mermaid": Format.MERMAID, ".dot": Format.DOT, ".gv": Format.DOT,
}  # fmt: skip
STATUSES: Mapping[str, Status] = {
    OutcomeName.BLOCKED: Status.BLOCKED,
    OutcomeName.FAILED: Status.FAILED,
    "running": Status.IN_PROGRESS,
}


def show_graph(path: Path, form: Format | None, output: Path | None, *, as_json: bool, console: Console) -> ExitCode:
    """Write the drawing to `output`, or to standard output. Raises InputError if that fails or the input has faults."""
    snapshot = read_snapshot(path)
    if snapshot.project is None:
        raise InputError(snapshot.faults)
    graph, outcomes = snapshot.project.graph, find_outcomes(snapshot)
    if as_json:
        print_json(describe_graph(snapshot, graph, outcomes))
        return ExitCode.COMPLETED
    chosen = form or choose_format(output)
    text = draw(graph, chosen, outcomes)
    if output is None:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        return ExitCode.COMPLETED
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError([f"{output} cannot be written ({error.strerror}); choose another file"]) from error
    say(console, f"Wrote {count(len(graph.tasks), 'node')} to {output}.")
    return ExitCode.COMPLETED


def choose_format(output: Path | None) -> Format:
    """The format that the name of a file stands for, DOT if it has no suffix. Raises InputError for another one."""
    suffix = output.suffix.casefold() if output else ""
    if not suffix:
        return Format.DOT
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        how = f"Graphviz draws others: coordinator graph | dot -T{suffix.removeprefix('.')} > {output}"
        raise InputError([f"{output} would not be a graph in any known format ({known}); choose --format. {how}"])
    return SUFFIXES[suffix]


def draw(graph: Graph, form: Format, outcomes: Mapping[str, str]) -> str:
    """Draw the graph as text; `outcomes` take precedence over the status in the task files."""
    match form:
        case Format.SVG:
            return draw_svg(graph, outcomes)
        case Format.MERMAID:
            return draw_mermaid(lay_over(graph, outcomes))
        case Format.DOT:
            return draw_dot(lay_over(graph, outcomes))


def lay_over(graph: Graph, outcomes: Mapping[str, str]) -> Graph:
    """Return `graph` with outcomes turned into statuses, for formats that only know those."""
    known = {task_id: STATUSES[name] for task_id, name in outcomes.items() if name in STATUSES}
    return build_graph(replace(t, status=known.get(t.id, t.status)) for t in graph.tasks.values()) if known else graph


def describe_graph(snapshot: Snapshot, graph: Graph, outcomes: Mapping[str, str]) -> dict[str, object]:
    """The graph as plain values, with nodes in topological order."""
    nodes: list[dict[str, object]] = []
    for task_id in graph.order():
        task = graph.tasks[task_id]
        nodes.append(
            {
                "id": task_id,
                "name": task.name,
                "path": task.path,
                "status": task.status.value,
                "level": task.level,
                "assignee": task.assignee,
                "cost": task.cost,
                "outcome": outcomes.get(task_id),
                "depends_on": list(graph.prerequisites(task_id)),
            }
        )
    edges = [[before, task_id] for task_id in graph.order() for before in graph.prerequisites(task_id)]
    return {"head": snapshot.project.head if snapshot.project else None, "nodes": nodes, "edges": edges}
