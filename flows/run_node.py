"""The Prefect task for a node: each attempt is one try, and Prefect does the retries.

The attempt decides how a node ended, whatever happens to its task run. If Prefect does not start a node, or its task
run fails, the node runs without a record in Prefect. The settings limit the number of attempts either way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any
from uuid import UUID, uuid4

from prefect import tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType, TaskRun, TaskRunResult
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import Pause, PrefectSignal
from prefect.states import Completed
from prefect.tasks import Task as PrefectTask

from flows.node_artifact import NodeArtifacts
from flows.node_log import logging_node
from flows.prefect_reporting import PrefectConnection
from flows.prefect_states import RETRY, describe_outcome
from tasks_lib.engine.scheduler import OpenNode, list_delays
from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Skipped, Task
from tasks_lib.runtime.status_board import Board
from tasks_lib.settings.schema import RetrySettings

BEGIN_SECONDS = 60.0
"""How long Prefect may take to start a node: it checks concurrency limits on the node's tags first."""
STOP_SECONDS = 2.0
"""The same once the node has to end: it then ends without Prefect."""
END_SECONDS = 15.0
"""How long Prefect may take to end a task run once its node has ended."""
MOST_LANDED = 200
"""The most task runs that Prefect's API returns at once; a retry shows other nodes that landed in this run again."""


class PrefectLauncher:
    """Gives each node a task run that waits for its prerequisites' states, so that the UI shows the edges.

    `on_pause` is called when Prefect starts no more task runs because someone suspended the flow run.
    """

    def __init__(
        self,
        board: Board,
        policy: RetrySettings,
        connection: PrefectConnection,
        artifacts: NodeArtifacts,
        on_pause: Callable[[], None],
    ) -> None:
        self._board = board
        self._artifacts = artifacts
        self._connection = connection
        self._on_pause = on_pause
        self._task = with_policy(policy)
        self._nodes: dict[str, OpenNode] = {}
        self._task_runs: dict[str, UUID] = {}
        self._states: dict[str, State[Any]] = {}
        self._try = uuid4().hex[:8]  # A retry of the flow run shows its nodes anew.

    async def start(self, node: OpenNode) -> None:
        self._nodes[node.id] = node
        before = [self._states[one] for one in node.task.depends_on if one in self._states]
        token = current_launcher.set(self)
        is_paused = False
        try:
            if not self._connection.is_lost:
                with tags(*list_tags(node.task)):
                    is_paused = await self._work_in_prefect(node, before)
            if node.outcome is None:
                with logging_node(self._board, node.id):
                    await node.work()
            if is_paused:
                await self.end(node)
        finally:
            current_launcher.reset(token)
            self._nodes.pop(node.id)

    async def attempt(self, node_id: str) -> State[Any]:
        """Make one attempt at a node, in its task run."""
        if context := TaskRunContext.get():
            self._task_runs[node_id] = context.task_run.id
        with logging_node(self._board, node_id):
            ended = await self._nodes[node_id].attempt()
        self._artifacts.show(node_id, ended)
        return describe_outcome(ended)

    async def end(self, node: OpenNode) -> None:
        """Record the outcome of a node whose task run Prefect does not end: it waited for a retry, or was paused."""
        task_run, outcome = self._task_runs.pop(node.id, None), node.outcome
        if task_run and outcome:
            async with get_client() as client:
                await self._connection.call(
                    lambda: client.set_task_run_state(task_run, describe_outcome(outcome), force=True)
                )

    async def show(self, graph: Graph, endings: Mapping[str, Skipped | None]) -> None:
        if not endings:
            return
        async with get_client() as client:
            for node_id, landed in (await self._read_landed(client)).items():
                if node_id in endings and endings[node_id] is None:
                    self._keep(node_id, landed, landed.state_details.task_run_id)
            for node_id, skipped in endings.items():
                if skipped is None and node_id in self._states:
                    continue
                state = describe_outcome(skipped) if skipped else Completed(message="Completed before this run.")
                await self._show(client, node_id, state, graph.prerequisites(node_id))

    async def _read_landed(self, client: PrefectClient) -> Mapping[str, State[Any]]:
        """The completed nodes of this flow run, by id: if it was retried or resumed, its page has them already."""
        context = FlowRunContext.get()
        flow_run = context.flow_run if context else None
        if flow_run is None or flow_run.deployment_id is None or self._states:
            return {}
        found = await self._connection.call(
            lambda: client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id])),
                task_run_filter=TaskRunFilter(
                    state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.COMPLETED]))
                ),
                limit=MOST_LANDED,
            )
        )
        return {run.name: run.state for run in found or () if run.state}

    def _keep(self, node_id: str, state: State[Any], task_run: UUID | None) -> None:
        details = state.state_details.model_copy(update={"task_run_id": task_run})
        # Prefect does not accept a completed state without a result as a prerequisite, so this copy has one.
        self._states[node_id] = state.model_copy(update={"state_details": details, "data": True})

    async def _show(self, client: PrefectClient, node_id: str, state: State[Any], before: Sequence[str]) -> None:
        context = FlowRunContext.get()
        runs = [self._states[one].state_details.task_run_id for one in before if one in self._states]
        made = await self._connection.call(
            lambda: client.create_task_run(
                run_node,
                flow_run_id=context.flow_run.id if context and context.flow_run else None,
                dynamic_key=f"shown-{node_id}-{self._try}",
                name=node_id,
                state=state,
                task_inputs={"wait_for": [TaskRunResult(id=run) for run in runs if run]},
            )
        )
        if made:
            self._keep(node_id, state, made.id)

    async def _work_in_prefect(self, node: OpenNode, before: Sequence[State[Any]]) -> bool:
        """Run `node` as a task run; it has no outcome if Prefect failed, or did not start it in time.

        Returns whether Prefect left it without recording its end because the flow run was suspended.
        """
        job = asyncio.ensure_future(_call(self._task, node.id, before))
        try:
            await self._watch(job, node)
            if job.done() and not job.cancelled():
                self._states[node.id] = job.result()
                self._task_runs.pop(node.id, None)
        except Pause:
            self._on_pause()
            return True
        except (Exception, PrefectSignal) as error:  # Errors of the attempt itself are already its outcome.
            if node.outcome is None:
                self._connection.note_failure(error)
        finally:
            if not job.done():
                job.cancel()
                await asyncio.wait([job], timeout=END_SECONDS)
        return False

    async def _watch(self, job: "asyncio.Future[State[Any]]", node: OpenNode) -> None:
        """Return when `job` has ended, or when Prefect took too long to start it, or to end it after the node."""
        while not job.done():
            seconds = _find_patience(node)
            waits = [asyncio.ensure_future(one.wait()) for one in (node.changed, self._connection.lost)]
            try:
                # A failure of Prefect does not interrupt an attempt in progress.
                heard = waits if seconds else waits[:1]
                await asyncio.wait([job, *heard], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if not node.changed.is_set():
                if not (job.done() or node.attempts or node.is_to_end or self._connection.is_lost):
                    self._say_held(node)
                return
            node.changed.clear()

    def _say_held(self, node: OpenNode) -> None:
        self._board.say(
            f"Prefect did not start {node.id} within {BEGIN_SECONDS:.0f} seconds (is there a concurrency limit on one "
            "of its tags?). It runs without a record in Prefect. To limit a run, use `max_sessions` instead."
        )


current_launcher: ContextVar[PrefectLauncher] = ContextVar("current_launcher")


def is_retryable(task: PrefectTask[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retry only recorded failures of an attempt; never Blocked nodes or internal errors."""
    return state.name == RETRY


@task(name="node", task_run_name="{node}", cache_policy=NO_CACHE, persist_result=False, retry_condition_fn=is_retryable)
async def run_node(node: str) -> State[Any]:
    """Run one node of the graph: worktree, setup, session, review, queue, verify, landing."""
    return await current_launcher.get().attempt(node)


async def _call(task: PrefectTask[..., Any], node: str, before: Sequence[State[Any]]) -> State[Any]:
    # Prefect's types do not cover awaiting an async task for its state.
    called: Awaitable[State[Any]] = task(node, wait_for=before, return_state=True)
    return await called


def _find_patience(node: OpenNode) -> float | None:
    """How many seconds Prefect may take until something changes; None while an attempt is in progress or due."""
    if node.outcome:
        return END_SECONDS
    if node.attempts:
        return None
    return STOP_SECONDS if node.is_to_end else BEGIN_SECONDS


def with_policy(policy: RetrySettings) -> PrefectTask[..., Any]:
    """`run_node` with the retries that `policy` sets."""
    delays = list_delays(policy)
    return run_node.with_options(retries=len(delays), retry_delay_seconds=delays or 0)


def list_tags(task: Task) -> list[str]:
    """The tags of a node's task run: its level and the tags of its task file."""
    return [tag for tag in (task.level, *task.tags) if tag]
