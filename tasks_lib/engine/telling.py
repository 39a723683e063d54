"""Passes what a run needs of people to its notifier."""

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.graph.run_plan import Plan
from tasks_lib.model import OutcomeName, Waiting
from tasks_lib.reporting.notifications import NodeState, describe_end, describe_limit, list_due
from tasks_lib.reporting.run_report import ExitCode


def tell_people(opened: OpenRun, plan: Plan) -> None:
    """Tell what waits for a person at the head; call it whenever that may have changed."""
    notifier, run = opened.notifier, opened.run
    if not notifier.is_used:
        return
    states: dict[str, NodeState] = {}
    for task_id, outcome in plan.outcomes.items():
        kind = str(getattr(outcome, "kind", None) or "")
        work = outcome.work if isinstance(outcome, Waiting) and not outcome.is_postponed else ""
        states[task_id] = NodeState(outcome.name, getattr(outcome, "reason", ""), kind, work)
    notifier.tell(list_due(plan.graph, states, plan.running))
    if run.stopping.halt_reason:
        notifier.tell([describe_limit(run.stopping.halt_reason, run.id)])


async def tell_end(opened: OpenRun, code: ExitCode) -> None:
    """Tell how the run has ended, and wait until that is sent, for a limited time."""
    run = opened.run
    nodes = run.board.view.nodes.values()
    own = run.nodes.let_landed  # A person who lands something sees what comes of it.
    ran = [one.outcome for one in nodes if one.attempt and one.outcome is not OutcomeName.NONE and one.id not in own]
    if ended := describe_end(code, run.id, ran, run.stopping.halt_reason):
        opened.notifier.tell([ended])
        await opened.notifier.flush()
