"""Works a plan: starts what is ready, hears what ended, re-reads the graph as the head moves, until nothing is left."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from prefect import tags
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State, TaskRunResult
from prefect.context import FlowRunContext

from flows.run_node import Dispatch, list_tags, run_node, with_policy, work_node
from flows.states import describe_outcome
from tasks_lib.errors import InputError
from tasks_lib.life.startup import OpenRun
from tasks_lib.model import Aborted, Failed, Outcome
from tasks_lib.plan import Plan

OPEN_PER_SESSION = 2
"""How many nodes may be open for each session slot: those that wait in the queue leave their slot to others."""


class Conductor:
    """The ready-queue of one run. Each node is a Prefect task run that waits for the states of its prerequisites."""

    def __init__(self, opened: OpenRun, plan: Plan, dispatch: Dispatch) -> None:
        self._run = opened.run
        self._lander = opened.lander
        self._publisher = opened.publisher
        self.plan: Plan = plan
        self._dispatch = dispatch
        self._jobs: dict[asyncio.Task[State[Any] | None], str] = {}
        self._read_head: str = ""
        self._node = with_policy(opened.run.settings.retry)
        self.states: dict[str, State[Any]] = {}

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        return self.plan.outcomes

    async def work(self) -> None:
        """Return when nothing runs and nothing can start, or the run was stopped and every session has ended.

        A cancellation stops the sessions, waits for them, and passes on.
        """
        try:
            while True:
                await self._read_graph()
                self._start_ready()
                if not self._jobs:
                    if self._run.is_stopping or not await self._is_work_taken_back():
                        return
                    continue
                self._give_up_if_stuck()
                await self._wait()
        except asyncio.CancelledError:
            self._run.stop()
            await self._end_jobs()
            raise

    async def _is_work_taken_back(self) -> bool:
        """Publish, now that nothing is at work, and see whether that takes merges back which others' do not fit."""
        await self._publisher.settle()
        return self._run.head.last_seen() != self._read_head

    def _start_ready(self) -> None:
        if self._run.is_stopping:
            return
        room = min(self._run.slots.size * OPEN_PER_SESSION - len(self._jobs), self._run.slots.free)
        running = set(self._jobs.values())
        for task_id in self.plan.ready():
            if room <= 0:
                return
            # A prerequisite is on the head a moment before its task run has a state, and the edge needs that state.
            if running.isdisjoint(self.plan.graph.prerequisites(task_id)):
                self._start(task_id)
                room -= 1

    def _start(self, task_id: str) -> None:
        self.plan.start(task_id)
        rank = -float(self.plan.priority(task_id))
        self._dispatch.seats[task_id] = self._run.slots.seat(rank)
        self._dispatch.ranks[task_id] = rank
        task = self.plan.graph.tasks[task_id]
        self._run.board.add_node(task_id, task.name)
        before = [self.states[one] for one in task.depends_on if one in self.states]
        with tags(*list_tags(task)):
            # The new asyncio task takes a copy of the context with it, and so the tags.
            job = asyncio.create_task(work_node(self._dispatch, self._node, task_id, before), name=task_id)
        self._jobs[job] = task_id

    async def _wait(self) -> None:
        """Wait for a node to end, for the head to move, or for a person to stop a node or the run."""
        signals = (self._run.moved, self._run.desk.has_changed)
        waits = [asyncio.create_task(signal.wait()) for signal in signals]
        await asyncio.wait([*self._jobs, *waits], return_when=asyncio.FIRST_COMPLETED)
        for signal, wait in zip(signals, waits, strict=True):
            wait.cancel()
            signal.clear()
        self._end_waiting(self._run.desk.is_aborted)
        for job in [job for job in self._jobs if job.done()]:
            await self._finish(job)
        if self._run.is_stopping:
            await self._end_jobs()

    async def _finish(self, job: "asyncio.Task[State[Any] | None]") -> None:
        task_id = self._jobs.pop(job)
        self._dispatch.seats.pop(task_id).leave()
        outcome = self._dispatch.outcomes.pop(task_id, None)
        is_retrying = task_id in self._dispatch.retrying
        task_run = self._dispatch.forget(task_id)
        if outcome is None and job.cancelled() and is_retrying:
            who = "a person stopped it" if self._run.desk.is_aborted(task_id) else "the run was stopped"
            outcome = Aborted(f"{who} before its next attempt; the work is kept")
            if task_run:
                await self._show_aborted(task_run, outcome)
        elif job.cancelled() or job.exception():
            broke = "it was cancelled" if job.cancelled() else job.exception()
            outcome = outcome or Failed(f"its task run broke: {broke}")
        elif state := job.result():
            self.states[task_id] = state
        outcome = outcome or Failed("its task run ended without saying how")
        self._run.desk.leave(task_id)
        self.plan.finish(task_id, outcome)
        self._run.board.end(task_id, outcome)

    async def show(self, client: PrefectClient, task_id: str, state: State[Any]) -> None:
        """Give a node that is not worked a task run in `state`, with the edges that it has in the graph."""
        context = FlowRunContext.get()
        before = [self.states[one] for one in self.plan.graph.prerequisites(task_id) if one in self.states]
        runs = [state.state_details.task_run_id for state in before]
        made = await self._dispatch.telling.tell(
            lambda: client.create_task_run(
                run_node,
                flow_run_id=context.flow_run.id if context and context.flow_run else None,
                dynamic_key=f"shown-{task_id}",
                name=task_id,
                state=state,
                task_inputs={"wait_for": [TaskRunResult(id=run) for run in runs if run]},
            )
        )
        if made is None:
            return
        details = state.state_details.model_copy(update={"task_run_id": made.id})
        # A completed state without a result is no prerequisite for Prefect, so the copy that we hand on has one.
        self.states[task_id] = state.model_copy(update={"state_details": details, "data": True})

    async def _show_aborted(self, task_run: UUID, outcome: Aborted) -> None:
        """Prefect was told of a retry that will not come."""
        async with get_client() as client:
            await self._dispatch.telling.tell(
                lambda: client.set_task_run_state(task_run, describe_outcome(outcome), force=True)
            )

    async def _end_jobs(self) -> None:
        """Wait until every node has ended by itself; `run.stop` was called, so each does soon."""
        while self._jobs:
            self._end_waiting(lambda task_id: True)
            await asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in [job for job in self._jobs if job.done()]:
                await self._finish(job)

    def _end_waiting(self, is_ended: Callable[[str], bool]) -> None:
        """End those that wait for an attempt to begin; one that works hears of it where it works."""
        for job, task_id in self._jobs.items():
            if is_ended(task_id):
                self._dispatch.wake(task_id)
            if task_id in self._dispatch.retrying and is_ended(task_id):
                job.cancel()

    def _give_up_if_stuck(self) -> None:
        """A queue held by a red base is waited for only while something else goes on."""
        if self._lander.waiting_for_base == len(self._jobs):
            self._lander.give_up()

    async def _read_graph(self) -> None:
        """Take in what the head says now; faults in it are said, and the graph as it was goes on."""
        head = self._run.head.last_seen()
        if head == self._read_head:
            return
        self._read_head = head
        try:
            graph = await self._run.thread(self._run.read_graph_at, head)
        except InputError as error:
            self._run.board.say(f"The task files at {head[:12]} have faults; the graph stays as it was.\n{error}")
            return
        if graph is not self.plan.graph:
            self._run.graph = graph
            changes = self.plan.update(graph)
            for task_id in changes.added:
                self._run.board.add_node(task_id, graph.tasks[task_id].name)
            for task_id in changes.reopened:
                if outcome := self.plan.outcomes.get(task_id):
                    self._run.board.end(task_id, outcome)
