"""The Prefect task that every node of the graph is: one attempt a try, and Prefect's own retries in between."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.tasks import Task as PrefectTask

from flows.states import RETRY, describe_outcome
from tasks_lib import settings
from tasks_lib.life.node import Retry, live
from tasks_lib.life.slots import Seat
from tasks_lib.life.startup import OpenRun
from tasks_lib.model import Outcome, Task


@dataclass(slots=True)
class Dispatch:
    """What `run_node` needs that is no parameter of it: parameters go to the server, and these are live objects.

    `retrying` holds the task run of each node that waits for its next attempt.
    """

    opened: OpenRun
    retrying: dict[str, UUID] = field(default_factory=dict[str, UUID])
    seats: dict[str, Seat] = field(default_factory=dict[str, Seat])
    ranks: dict[str, float] = field(default_factory=dict[str, float])
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])


current_dispatch: ContextVar[Dispatch] = ContextVar("current_dispatch")


def is_retryable(task: PrefectTask[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Only a recorded failure of an attempt is tried again; never Blocked, never what broke on our side."""
    return state.name == RETRY


@task(name="node", task_run_name="{node}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=is_retryable)
async def run_node(node: str) -> State[Any]:
    """Work one node of the graph: worktree, setup, session, review, queue, verify, landing."""
    dispatch = current_dispatch.get()
    logger = get_run_logger()

    def tell(about: str, line: str) -> None:
        if about == node:
            logger.info(line)

    board = dispatch.opened.run.board
    board.listen(tell)
    dispatch.retrying.pop(node, None)
    try:
        outcome = await live(
            dispatch.opened.run, dispatch.opened.lander, node, dispatch.seats[node], dispatch.ranks[node]
        )
    finally:
        board.ignore(tell)
    context = TaskRunContext.get()
    if isinstance(outcome, Retry) and context:
        dispatch.retrying[node] = context.task_run.id
        if dispatch.opened.run.desk.is_aborted(node):
            dispatch.opened.run.desk.has_changed.set()  # It was stopped between its last stage and this.
    elif not isinstance(outcome, Retry):
        dispatch.outcomes[node] = outcome
    return describe_outcome(outcome)


def with_policy(policy: settings.RetrySettings) -> PrefectTask[..., Any]:
    """`run_node` with attempts that follow on each other as `policy` says."""
    delays = [
        float(min(policy.delay_seconds * 2**number, policy.max_delay_seconds)) for number in range(policy.attempts - 1)
    ]
    return run_node.with_options(retries=len(delays), retry_delay_seconds=delays or 0)


def list_tags(task: Task) -> list[str]:
    """The tags of a node's task run: its level, and those of its task file."""
    return [tag for tag in (task.level, *task.tags) if tag]
