"""The Prefect task that every node of the graph is: one attempt a try, and Prefect's own retries in between.

What an attempt returned is how a node ended, whatever becomes of its task run. A node that Prefect does not let begin,
or whose task run breaks, is worked without that record; it has as many attempts as the settings say, either way.
"""

import asyncio
from collections.abc import Awaitable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from prefect import get_run_logger, tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State, TaskRun, TaskRunResult
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectSignal
from prefect.states import Completed
from prefect.tasks import Task as PrefectTask

from flows.prefect_reporting import Telling
from flows.prefect_states import RETRY, describe_outcome
from tasks_lib.engine.scheduler import OpenNode, list_delays
from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Skipped, Task
from tasks_lib.node.attempt import Retry
from tasks_lib.runtime.status_board import Board
from tasks_lib.settings.schema import RetrySettings

BEGIN_SECONDS = 60.0
"""How long Prefect may take to let a node begin: it asks its server about concurrency limits on the node's tags."""
STOP_SECONDS = 2.0
"""The same once the node is to end: it then ends without Prefect."""
END_SECONDS = 15.0
"""How long Prefect may take, once a node has ended, to end its task run."""


class PrefectLauncher:
    """Gives each node a task run, which waits for the states of its prerequisites, and so has its edges in the UI."""

    def __init__(self, board: Board, policy: RetrySettings, telling: Telling) -> None:
        self._board = board
        self._telling = telling
        self._task = with_policy(policy)
        self._nodes: dict[str, OpenNode] = {}
        self._retrying: dict[str, UUID] = {}
        self._states: dict[str, State[Any]] = {}

    async def start(self, node: OpenNode) -> None:
        self._nodes[node.id] = node
        before = [self._states[one] for one in node.task.depends_on if one in self._states]
        token = current_launcher.set(self)
        try:
            if not self._telling.is_lost:
                with tags(*list_tags(node.task)):
                    await self._work_in_prefect(node, before)
            if node.outcome is None:
                with self._logging(node.id):
                    await node.work()
        finally:
            current_launcher.reset(token)
            self._nodes.pop(node.id)

    async def attempt(self, node_id: str) -> State[Any]:
        """Make one attempt, in the task run of a node."""
        self._retrying.pop(node_id, None)
        with self._logging(node_id):
            ended = await self._nodes[node_id].attempt()
        if isinstance(ended, Retry) and (context := TaskRunContext.get()):
            self._retrying[node_id] = context.task_run.id
        return describe_outcome(ended)

    async def end(self, node: OpenNode) -> None:
        task_run, outcome = self._retrying.pop(node.id, None), node.outcome
        if task_run and outcome:
            async with get_client() as client:
                await self._telling.tell(
                    lambda: client.set_task_run_state(task_run, describe_outcome(outcome), force=True)
                )

    async def show(self, graph: Graph, endings: Mapping[str, Skipped | None]) -> None:
        if not endings:
            return
        async with get_client() as client:
            for node_id, skipped in endings.items():
                state = describe_outcome(skipped) if skipped else Completed(message="It was completed before this run.")
                await self._show(client, node_id, state, graph.prerequisites(node_id))

    async def _show(self, client: PrefectClient, node_id: str, state: State[Any], before: Sequence[str]) -> None:
        context = FlowRunContext.get()
        runs = [self._states[one].state_details.task_run_id for one in before if one in self._states]
        made = await self._telling.tell(
            lambda: client.create_task_run(
                run_node,
                flow_run_id=context.flow_run.id if context and context.flow_run else None,
                dynamic_key=f"shown-{node_id}",
                name=node_id,
                state=state,
                task_inputs={"wait_for": [TaskRunResult(id=run) for run in runs if run]},
            )
        )
        if made is None:
            return
        details = state.state_details.model_copy(update={"task_run_id": made.id})
        # A completed state without a result is no prerequisite for Prefect, so the copy that we hand on has one.
        self._states[node_id] = state.model_copy(update={"state_details": details, "data": True})

    async def _work_in_prefect(self, node: OpenNode, before: Sequence[State[Any]]) -> None:
        """Work `node` as a task run; it has no outcome yet if Prefect broke that, or did not let it begin in time."""
        job = asyncio.ensure_future(_call(self._task, node.id, before))
        try:
            await self._watch(job, node)
            if job.done() and not job.cancelled():
                self._states[node.id] = job.result()
        except (Exception, PrefectSignal) as error:  # What an attempt itself raises is noted as its outcome.
            if node.outcome is None:
                self._telling.miss(error)
        finally:
            if not job.done():
                job.cancel()
                await asyncio.wait([job], timeout=END_SECONDS)

    async def _watch(self, job: "asyncio.Future[State[Any]]", node: OpenNode) -> None:
        """Return when `job` has ended, or Prefect has had its time to begin it, or to end it once the node ended."""
        while not job.done():
            seconds = _find_patience(node)
            waits = [asyncio.ensure_future(one.wait()) for one in (node.changed, self._telling.lost)]
            try:
                # An attempt that is being made is not disturbed by anything that becomes of Prefect.
                heard = waits if seconds else waits[:1]
                await asyncio.wait([job, *heard], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if not node.changed.is_set():
                if not (job.done() or node.attempts or node.is_to_end or self._telling.is_lost):
                    self._say_held(node)
                return
            node.changed.clear()

    def _say_held(self, node: OpenNode) -> None:
        self._board.say(
            f"Prefect did not let {node.id} begin within {BEGIN_SECONDS:.0f} seconds (a concurrency limit on one of "
            "its tags?): it is worked without Prefect's record. `max_sessions` is what limits a run."
        )

    @contextmanager
    def _logging(self, node_id: str) -> Generator[None]:
        """Write what is said of a node into Prefect's log: its task run's, or else the flow run's."""
        logger = get_run_logger()

        def tell(about: str, line: str) -> None:
            if about == node_id:
                logger.info(line)

        self._board.listen(tell)
        try:
            yield
        finally:
            self._board.ignore(tell)


current_launcher: ContextVar[PrefectLauncher] = ContextVar("current_launcher")


def is_retryable(task: PrefectTask[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Only a recorded failure of an attempt is tried again; never Blocked, never what broke on our side."""
    return state.name == RETRY


@task(name="node", task_run_name="{node}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=is_retryable)
async def run_node(node: str) -> State[Any]:
    """Work one node of the graph: worktree, setup, session, review, queue, verify, landing."""
    return await current_launcher.get().attempt(node)


async def _call(task: PrefectTask[..., Any], node: str, before: Sequence[State[Any]]) -> State[Any]:
    # Prefect's types do not know that a task that is async is awaited for its state.
    called: Awaitable[State[Any]] = task(node, wait_for=before, return_state=True)
    return await called


def _find_patience(node: OpenNode) -> float | None:
    """How long Prefect may take until something changes, in seconds; None while an attempt is made or due."""
    if node.outcome:
        return END_SECONDS
    if node.attempts:
        return None
    return STOP_SECONDS if node.is_to_end else BEGIN_SECONDS


def with_policy(policy: RetrySettings) -> PrefectTask[..., Any]:
    """`run_node` with attempts that follow on each other as `policy` says."""
    delays = list_delays(policy)
    return run_node.with_options(retries=len(delays), retry_delay_seconds=delays or 0)


def list_tags(task: Task) -> list[str]:
    """The tags of a node's task run: its level, and those of its task file."""
    return [tag for tag in (task.level, *task.tags) if tag]
