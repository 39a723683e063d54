"""Works a plan: starts what is ready, hears what ended, re-reads the graph as the head moves, until nothing is left.

A launcher starts nodes and shows them: Prefect's does in a flow, one of plain asyncio in tests. All else is here, so
that what is tested is what users run.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.graph.run_plan import Plan
from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Aborted, Failed, Outcome, Skipped, Task
from tasks_lib.node.attempt import AttemptRetry, run_attempt
from tasks_lib.reporting.run_report import ExitCode, find_exit_code
from tasks_lib.runtime.session_slots import SlotLease
from tasks_lib.settings.schema import RetrySettings

OPEN_PER_SESSION = 2
"""How many nodes may be open for each session slot: those that wait in the queue leave their slot to others."""


def list_delays(policy: RetrySettings) -> list[float]:
    """How long to wait before each attempt but the first, in seconds."""
    return [
        float(min(policy.delay_seconds * 2**number, policy.max_delay_seconds)) for number in range(policy.attempts - 1)
    ]


class OpenNode:
    """A node from its start to its end: the attempts that were made at it in this run, and how it ended.

    `is_waiting` says that an attempt failed and the next one has not begun; `changed` is set when an attempt begins or
    ends, and when the node is to end. `failures` are the reasons of the attempts that failed; `outcome` is None until
    the node has ended.
    """

    def __init__(self, opened: OpenRun, task: Task, priority: int) -> None:
        self.task: Task = task
        self.attempts: int = 0
        self.failures: list[str] = []
        self.is_waiting: bool = False
        self.outcome: Outcome | None = None
        self.changed: asyncio.Event = asyncio.Event()
        self._run = opened.run
        self._merge_queue = opened.merge_queue
        self._rank = -float(priority)
        self._slot_lease: SlotLease = opened.run.agents.slots.lease(self._rank)
        self._delays = list_delays(opened.run.settings.retry)

    @property
    def id(self) -> str:
        return self.task.id

    @property
    def is_to_end(self) -> bool:
        """Whether a person stopped the run, or this node."""
        return self._run.stopping.is_requested or self._run.requests.is_abort_requested(self.id)

    async def attempt(self) -> Outcome | AttemptRetry:
        """Make one attempt; how the node ended, or that another attempt is due. Raises what breaks in our own code."""
        self.is_waiting = False
        self.attempts += 1
        self.changed.set()
        try:
            ended = await run_attempt(self._run, self._merge_queue, self.id, self._slot_lease, self._rank)
        except Exception as error:
            self.outcome = Failed(f"its attempt failed unexpectedly: {error!r}")
            raise
        if not isinstance(ended, AttemptRetry):
            self.outcome = ended
        else:
            self.is_waiting = True
            self.failures.append(ended.reason)
            if self.is_to_end:  # It was stopped between its last stage and this.
                self._run.requests.has_changed.set()
        self.changed.set()
        return ended

    async def work(self) -> None:
        """Make the attempts that are left, with the delays that the settings want between them."""
        while self.outcome is None and self.attempts <= len(self._delays):
            if self.attempts:
                await asyncio.sleep(self._delays[self.attempts - 1])
            await self.attempt()

    def close(self) -> None:
        """Leave the slot, and forget what persons wanted of this node; call when nothing works for it any more."""
        self._slot_lease.release()
        self._run.requests.leave(self.id)


class Launcher(Protocol):
    """What brings nodes to life, and shows them where people look."""

    async def start(self, node: OpenNode) -> None:
        """See to it that `node.attempt` is called until it returns an outcome; `node.work` is the plain way to do so.

        Cancelled if the node is to end while it waits for its next attempt. What is raised before the node has an
        outcome makes it Failed.
        """
        ...

    async def end(self, node: OpenNode) -> None:
        """Show that `node` ended while it waited for an attempt that will not come; its outcome says why."""
        ...

    async def show(self, graph: Graph, endings: Mapping[str, Skipped | None]) -> None:
        """Show nodes of `graph` that are not worked, in the order given: skipped, or None for completed before."""
        ...


class Scheduler:
    """The ready-queue of one run."""

    def __init__(self, opened: OpenRun, plan: Plan, launcher: Launcher) -> None:
        self._opened = opened
        self._run = opened.run
        self._merge_queue = opened.merge_queue
        self._launcher = launcher
        self._nodes: dict[asyncio.Task[None], OpenNode] = {}
        self._read_head: str = ""
        self.plan: Plan = plan

    async def work(self) -> None:
        """Return when nothing runs and nothing can start, or the run was stopped and every session has ended.

        A cancellation stops the sessions, waits for them, and passes on.
        """
        await self._show_completed()
        try:
            await self._work()
        except asyncio.CancelledError:
            self._run.stopping.request()
            await self._end_all()
            raise
        if not self._run.stopping.is_requested:
            await self._show_skips()

    def judge(self) -> ExitCode:
        """How the run ended, by the graph at the head."""
        # A run that gave up because no session could do better was stopped by what it met, and not by a person.
        is_interrupted = self._run.stopping.is_requested and not self._run.stopping.halt_reason
        plan = self.plan
        return find_exit_code(plan.graph, plan.only, plan.outcomes, is_interrupted=is_interrupted)

    async def _work(self) -> None:
        while True:
            await self._read_graph()
            self._start_ready()
            if self._nodes:
                self._give_up_if_stuck()
                await self._wait()
            elif self._run.stopping.is_requested or not await self._is_work_taken_back():
                return

    async def _is_work_taken_back(self) -> bool:
        """Publish, now that nothing is at work, and see whether that takes merges back which others' do not fit."""
        await self._opened.publisher.publish_when_idle()
        return self._run.git.head.last_seen() != self._read_head

    async def _read_graph(self) -> None:
        """Take in what the head says now; faults in it are said, and the graph as it was goes on."""
        head = self._run.git.head.last_seen()
        if head == self._read_head:
            return
        self._read_head = head
        try:
            graph = await self._run.git.call(self._run.nodes.read_graph_at, head)
        except InputError as error:
            self._run.board.say(f"The task files at {head[:12]} have faults; the graph stays as it was.\n{error}")
            return
        if graph is not self.plan.graph:
            self._run.nodes.graph = graph
            changes = self.plan.update(graph)
            for task_id in changes.added:
                self._run.board.add_node(task_id, graph.tasks[task_id].name)
            for task_id in changes.reopened:
                if outcome := self.plan.outcomes.get(task_id):
                    self._run.board.end(task_id, outcome)

    # Starting, and hearing what ended.

    def _start_ready(self) -> None:
        if self._run.stopping.is_requested:
            return
        room = min(self._run.agents.slots.size * OPEN_PER_SESSION - len(self._nodes), self._run.agents.slots.free)
        for task_id in self.plan.ready():
            if room <= 0:
                return
            # A prerequisite is on the head a moment before its task run has a state, and the edge needs that state.
            if self.plan.running.isdisjoint(self.plan.graph.prerequisites(task_id)):
                self._start(task_id)
                room -= 1

    def _start(self, task_id: str) -> None:
        self.plan.start(task_id)
        task = self.plan.graph.tasks[task_id]
        node = OpenNode(self._opened, task, self.plan.priority(task_id))
        self._run.board.add_node(task_id, task.name)
        self._nodes[asyncio.create_task(self._launcher.start(node), name=task_id)] = node

    async def _wait(self) -> None:
        """Wait for a node to end, for the head to move, or for a person to stop a node or the run."""
        await self._hear(self._run.changed, self._run.requests.has_changed)
        self._end_waiting(self._run.requests.is_abort_requested)
        await self._finish_done()
        if self._run.stopping.is_requested:
            await self._end_all()

    async def _end_all(self) -> None:
        """Wait until every node has ended by itself; `run.stopping.request` was called, so each does soon."""
        while self._nodes:
            self._end_waiting(lambda task_id: True)
            await self._hear(self._run.requests.has_changed)
            await self._finish_done()

    async def _hear(self, *signals: asyncio.Event) -> None:
        waits = [asyncio.create_task(signal.wait()) for signal in signals]
        try:
            await asyncio.wait([*self._nodes, *waits], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for signal, wait in zip(signals, waits, strict=True):
                wait.cancel()
                signal.clear()

    def _end_waiting(self, is_to_end: Callable[[str], bool]) -> None:
        """End those that wait for an attempt to begin; one that works hears of it where it works."""
        for job, node in self._nodes.items():
            if is_to_end(node.id):
                node.changed.set()
                if node.is_waiting:
                    job.cancel()

    def _give_up_if_stuck(self) -> None:
        """A queue held by a red base is waited for only while something else goes on."""
        if self._merge_queue.waiting_for_base == len(self._nodes):
            self._merge_queue.give_up()

    async def _finish_done(self) -> None:
        for job in [job for job in self._nodes if job.done()]:
            await self._finish(job)

    async def _finish(self, job: asyncio.Task[None]) -> None:
        node = self._nodes.pop(job)
        if node.outcome is None and node.is_waiting and job.cancelled():
            who = "stopped on request" if self._run.requests.is_abort_requested(node.id) else "the run was stopped"
            node.outcome = Aborted(f"{who} before its next attempt; the work is kept")
            await self._launcher.end(node)
        broke = "it was cancelled" if job.cancelled() else job.exception()
        said = f"its task run crashed: {broke}" if broke else "its task run ended without an outcome"
        outcome = node.outcome or Failed(said)
        node.close()
        self.plan.finish(node.id, outcome)
        self._run.board.end(node.id, outcome)

    # What is shown and not worked.

    async def _show_completed(self) -> None:
        """Show what was completed before this run and is needed in it, so that every edge is drawn."""
        graph = self.plan.graph
        wanted = [task for task in graph.tasks.values() if not task.is_completed]
        needed = {one for task in wanted for one in task.depends_on if graph.tasks[one].is_completed}
        await self._launcher.show(graph, {task_id: None for task_id in graph.order() if task_id in needed})

    async def _show_skips(self) -> None:
        """Show each node that never started with the reason."""
        graph, skips = self.plan.graph, self.plan.skips()
        endings = {task_id: Skipped(skips[task_id]) for task_id in graph.order() if task_id in skips}
        for task_id, skipped in endings.items():
            self._run.board.end(task_id, skipped)
        await self._launcher.show(graph, endings)
