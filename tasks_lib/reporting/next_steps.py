"""Decides what a person can do once a run has ended: command lines, and what each of them does."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks_lib.graph.run_plan import Plan
from tasks_lib.model import OutcomeName, Status
from tasks_lib.naming import is_resolve_task

MOST = 3
"""How many commands of one kind are shown."""
RUN = "run"
_KINDS: Mapping[OutcomeName, tuple[str, str]] = {
    OutcomeName.BLOCKED: ('resolve {} "YOUR ANSWER"', "answers what blocks the node"),
    OutcomeName.FAILED: ("logs {}", "shows why the node failed"),
    OutcomeName.WAITING: ("land {}", "lets the verified work land"),
}


@dataclass(frozen=True, slots=True)
class NextStep:
    """A command line without the program's name, and what it does; without a command, only a remark."""

    command: str
    purpose: str


def list_next_steps(
    plan: Plan, outcomes: Mapping[str, OutcomeName], taken: Collection[str], *, is_pending: bool
) -> list[NextStep]:
    """What can be done for the nodes that have not landed, by their last `outcomes`, with `coordinator run` at the end.

    `taken` are the nodes that a person is working on. `is_pending` says that verified work waits to be published. The
    list is empty if there is nothing to do but to run again.
    """
    ended = _find_ends(plan, outcomes)
    steps: list[NextStep] = []
    for outcome, (command, purpose) in _KINDS.items():
        steps += _list_commands([one for one, how in ended.items() if how is outcome], command, purpose)
    begun = [one for one in plan.waiting_for_person() if one in taken]
    steps += _list_commands(begun, "land {}", "hands in what a person has done")
    free = [one for one in _find_takeable(plan) if one not in taken]
    steps += _list_commands(free, "take {}", "prepares the task for a person")
    if is_pending:
        return [*steps, NextStep(RUN, "publishes what is verified, and continues")]
    return [*steps, NextStep(RUN, "continues")] if steps else []


def _find_ends(plan: Plan, outcomes: Mapping[str, OutcomeName]) -> dict[str, OutcomeName]:
    """How each open node ended; an earlier run may have blocked it, which its task file says."""
    ready = set(plan.ready())
    found: dict[str, OutcomeName] = {}
    for task_id in plan.graph.order():
        task = plan.graph.tasks[task_id]
        if task.status is Status.BLOCKED and task_id not in ready and not task.is_human:
            found[task_id] = OutcomeName.BLOCKED
        elif not task.is_completed:
            found[task_id] = outcomes.get(task_id, OutcomeName.NONE)
    return found


def _find_takeable(plan: Plan) -> Iterator[str]:
    """Tasks of a person that can begin. Resolve tasks are answered instead, through the nodes that they unblock."""
    for task_id in plan.waiting_for_person():
        is_ready = all(plan.graph.tasks[one].is_completed for one in plan.graph.tasks[task_id].depends_on)
        if is_ready and not is_resolve_task(task_id):
            yield task_id


def _list_commands(ids: Sequence[str], command: str, purpose: str) -> list[NextStep]:
    steps = [NextStep(command.format(one), purpose) for one in ids[:MOST]]
    return [*steps, NextStep("", f"and {len(ids) - MOST} more")] if len(ids) > MOST else steps
