"""The Prefect task that every node of the graph is: one attempt a try, and Prefect's own retries in between.

What `live` returned is how a node ended, whatever becomes of its task run. A node that Prefect does not let begin, or
whose task run breaks, is worked without that record; it has as many attempts as the settings say, either way.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectSignal
from prefect.tasks import Task as PrefectTask

from flows.states import RETRY, describe_outcome
from flows.telling import Telling
from tasks_lib import settings
from tasks_lib.life.node import Retry, live
from tasks_lib.life.slots import Seat
from tasks_lib.life.startup import OpenRun
from tasks_lib.model import Failed, Outcome, Task

BEGIN_SECONDS = 60.0
"""How long Prefect may take to let a node begin: it asks its server about concurrency limits on the node's tags."""
STOP_SECONDS = 2.0
"""The same once the node is to end: it then ends without Prefect."""
END_SECONDS = 15.0
"""How long Prefect may take, once a node has ended, to end its task run."""


@dataclass(slots=True)
class Dispatch:
    """What `run_node` needs that is no parameter of it: parameters go to the server, and these are live objects.

    `retrying` holds each node that waits for its next attempt, with its task run if it has one; `tries` counts the
    attempts of a node in this run, and `changed` is set when one of them has begun or ended.
    """

    opened: OpenRun
    telling: Telling
    retrying: dict[str, UUID | None] = field(default_factory=dict[str, UUID | None])
    seats: dict[str, Seat] = field(default_factory=dict[str, Seat])
    ranks: dict[str, float] = field(default_factory=dict[str, float])
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    tries: dict[str, int] = field(default_factory=dict[str, int])
    changed: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])

    def is_to_end(self, node: str) -> bool:
        """Whether a person stopped the run, or the node."""
        return self.opened.run.is_stopping or self.opened.run.desk.is_aborted(node)

    def wake(self, node: str) -> None:
        """Something changed for `node`: whatever waits for Prefect on its behalf looks again."""
        if event := self.changed.get(node):
            event.set()

    def forget(self, node: str) -> UUID | None:
        """`node` has ended; the task run that waits for an attempt that will not come, if any."""
        self.tries.pop(node, None)
        self.changed.pop(node, None)
        return self.retrying.pop(node, None)


current_dispatch: ContextVar[Dispatch] = ContextVar("current_dispatch")


def is_retryable(task: PrefectTask[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Only a recorded failure of an attempt is tried again; never Blocked, never what broke on our side."""
    return state.name == RETRY


@task(name="node", task_run_name="{node}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=is_retryable)
async def run_node(node: str) -> State[Any]:
    """Work one node of the graph: worktree, setup, session, review, queue, verify, landing."""
    return describe_outcome(await make_attempt(current_dispatch.get(), node))


async def make_attempt(dispatch: Dispatch, node: str) -> Outcome | Retry:
    """Make one attempt at `node`, and note how it ended where no fault of Prefect's reaches."""
    run, lander = dispatch.opened.run, dispatch.opened.lander
    logger = get_run_logger()

    def tell(about: str, line: str) -> None:
        if about == node:
            logger.info(line)

    run.board.listen(tell)
    dispatch.retrying.pop(node, None)
    dispatch.tries[node] = dispatch.tries.get(node, 0) + 1
    dispatch.wake(node)
    try:
        outcome = await live(run, lander, node, dispatch.seats[node], dispatch.ranks[node])
    except Exception as error:
        dispatch.outcomes[node] = Failed(f"its attempt broke: {error!r}")
        raise
    finally:
        run.board.ignore(tell)
    if isinstance(outcome, Retry):
        context = TaskRunContext.get()
        dispatch.retrying[node] = context.task_run.id if context else None
        if run.desk.is_aborted(node):
            run.desk.has_changed.set()  # It was stopped between its last stage and this.
    else:
        dispatch.outcomes[node] = outcome
    dispatch.wake(node)
    return outcome


async def work_node(
    dispatch: Dispatch, task: PrefectTask[..., Any], node: str, before: Sequence[State[Any]]
) -> State[Any] | None:
    """Work `node` as a task run of Prefect's, or without one where Prefect cannot; returns its state there, if any.

    How the node ended is in `dispatch.outcomes`. `before` are the states of its prerequisites.
    """
    dispatch.changed[node] = asyncio.Event()
    state = None if dispatch.telling.is_lost else await _work_in_prefect(dispatch, task, node, before)
    if node in dispatch.outcomes:
        return state
    while node not in dispatch.outcomes and (tries := dispatch.tries.get(node, 0)) <= (task.retries or 0):
        await asyncio.sleep(_find_delay(task, tries))
        await make_attempt(dispatch, node)
    return None


def _find_delay(task: PrefectTask[..., Any], tries: int) -> float:
    """How long to wait after so many `tries`, in seconds."""
    delays = task.retry_delay_seconds
    return float(delays[min(tries, len(delays)) - 1]) if isinstance(delays, list) and tries else 0.0


async def _work_in_prefect(
    dispatch: Dispatch, task: PrefectTask[..., Any], node: str, before: Sequence[State[Any]]
) -> State[Any] | None:
    """The state of the task run as it ended; None if Prefect broke it, or did not let it begin or end in time."""
    job = asyncio.ensure_future(_call(task, node, before))
    try:
        await _watch(dispatch, job, node)
        if job.done() and not job.cancelled():
            return job.result()
    except (Exception, PrefectSignal) as error:  # What an attempt itself raises is noted as its outcome.
        if node not in dispatch.outcomes:
            dispatch.telling.miss(error)
    finally:
        if not job.done():
            job.cancel()
            await asyncio.wait([job], timeout=END_SECONDS)
    return None


async def _call(task: PrefectTask[..., Any], node: str, before: Sequence[State[Any]]) -> State[Any]:
    # Prefect's types do not know that a task that is async is awaited for its state.
    called: Awaitable[State[Any]] = task(node, wait_for=before, return_state=True)
    return await called


async def _watch(dispatch: Dispatch, job: "asyncio.Future[State[Any]]", node: str) -> None:
    """Return when `job` has ended, or when Prefect has had its time to begin it, or to end it after the node ended."""
    changed = dispatch.changed[node]
    while not job.done():
        seconds = _find_patience(dispatch, node)
        waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(dispatch.telling.lost.wait())]
        try:
            # An attempt that is being made is not disturbed by anything that becomes of Prefect.
            heard = waits if seconds else waits[:1]
            await asyncio.wait([job, *heard], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not changed.is_set():
            if not job.done() and not dispatch.tries.get(node) and not dispatch.is_to_end(node):
                _say_held(dispatch, node)
            return
        changed.clear()


def _find_patience(dispatch: Dispatch, node: str) -> float | None:
    """How long Prefect may take until something changes, in seconds; None while an attempt is made or due."""
    if node in dispatch.outcomes:
        return END_SECONDS
    if dispatch.tries.get(node):
        return None
    return STOP_SECONDS if dispatch.is_to_end(node) else BEGIN_SECONDS


def _say_held(dispatch: Dispatch, node: str) -> None:
    if not dispatch.telling.is_lost:
        dispatch.opened.run.board.say(
            f"Prefect did not let {node} begin within {BEGIN_SECONDS:.0f} seconds (a concurrency limit on one of its "
            "tags?): it is worked without Prefect's record. `max_sessions` is what limits a run."
        )


def with_policy(policy: settings.RetrySettings) -> PrefectTask[..., Any]:
    """`run_node` with attempts that follow on each other as `policy` says."""
    delays = [
        float(min(policy.delay_seconds * 2**number, policy.max_delay_seconds)) for number in range(policy.attempts - 1)
    ]
    return run_node.with_options(retries=len(delays), retry_delay_seconds=delays or 0)


def list_tags(task: Task) -> list[str]:
    """The tags of a node's task run: its level, and those of its task file."""
    return [tag for tag in (task.level, *task.tags) if tag]
