"""Decides what `coordinator status` exits with, and the exit code that it shows for a run in progress."""

from collections.abc import Collection, Mapping

from flows.cli.commands.repository_snapshot import Snapshot
from tasks_lib.graph.run_plan import Plan
from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Aborted, Blocked, Failed, Outcome, OutcomeName, Waiting
from tasks_lib.reporting.run_report import ExitCode, find_exit_code, foresee_exit_code
from tasks_lib.runtime.status_board import RunView

_BAD = (OutcomeName.BLOCKED, OutcomeName.FAILED, OutcomeName.ABORTED)


def judge(snapshot: Snapshot, graph: Graph, ready: Collection[str]) -> tuple[ExitCode, ExitCode]:
    """Return what `status` exits with, and the exit code of the run, by `graph` at the head; `ready` may start there.

    During a run they differ: `status` exits with 0, and the run's code is the one that it would end with.
    """
    if snapshot.is_alive:
        return ExitCode.COMPLETED, _foresee(snapshot, graph, ready)
    view = snapshot.view
    is_interrupted = snapshot.was_killed or (view is not None and view.exit_code == ExitCode.INTERRUPTED)
    outcomes: Mapping[str, Outcome] = _find_bad_endings(view, ready) if view else {}
    code = find_exit_code(graph, (), outcomes, is_interrupted=is_interrupted)
    return code, code


def judge_unreadable(snapshot: Snapshot) -> tuple[ExitCode, ExitCode]:
    """Return the same two codes if the head has faults: a run in progress continues with the graph that it has."""
    if not snapshot.is_alive:
        return ExitCode.BAD_INPUT, ExitCode.BAD_INPUT
    nodes = snapshot.view.nodes.values() if snapshot.view and snapshot.holder else ()
    has_failed = any(node.outcome in _BAD for node in nodes)
    return ExitCode.COMPLETED, ExitCode.BLOCKED if has_failed else ExitCode.COMPLETED


def _foresee(snapshot: Snapshot, graph: Graph, ready: Collection[str]) -> ExitCode:
    view = snapshot.view if snapshot.holder else None  # While a run starts, it is that of the last one.
    if view is None:
        return foresee_exit_code(graph, (), {}, ready)
    running = {node.id for node in view.nodes.values() if node.is_running}
    only = Plan(graph, [i for i in view.only if i in graph.tasks]).only
    return foresee_exit_code(graph, only, _find_bad_endings(view, ready), {*ready, *running})


def _find_bad_endings(view: RunView, ready: Collection[str]) -> Mapping[str, Outcome]:
    """Nodes that ended badly and still count; a blocked node that is ready again was unblocked since."""
    found: dict[str, Outcome] = {}
    for node in view.nodes.values():
        match node.outcome:
            case OutcomeName.FAILED:
                found[node.id] = Failed(node.reason)
            case OutcomeName.ABORTED:
                found[node.id] = Aborted(node.reason)
            case OutcomeName.WAITING:
                found[node.id] = Waiting(node.reason)
            case OutcomeName.BLOCKED if node.id not in ready:
                found[node.id] = Blocked(node.reason)
            case _:
                pass
    return found
