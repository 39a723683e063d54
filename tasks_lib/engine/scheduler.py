"""Runs a plan: starts ready nodes, collects their outcomes, and rereads the graph when the head moves, to the end.

A launcher starts and shows nodes: Prefect implements it in a flow, plain asyncio in tests. Everything else is here, so
that tests run the same scheduler as users.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Protocol

from tasks_lib.engine.head_check import HeadCheck
from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.engine.telling import tell_people
from tasks_lib.errors import InputError
from tasks_lib.graph.graph_changes import find_renamed
from tasks_lib.graph.run_plan import Plan
from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Aborted, Failed, Outcome, Skipped, Stage, Task
from tasks_lib.naming import show_some
from tasks_lib.node.attempt import AttemptRetry, run_attempt
from tasks_lib.node.provider_limits import find_provider
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.reporting.run_report import ExitCode, find_exit_code
from tasks_lib.runtime.absent_nodes import explain_absence
from tasks_lib.runtime.session_slots import SlotLease
from tasks_lib.runtime.start_gate import StartGate
from tasks_lib.settings.schema import RetrySettings
from tasks_lib.settings.spoke_schema import Place

OPEN_PER_SESSION = 2
"""How many nodes may be open per session slot; nodes in the merge queue release their slot to others."""


def list_delays(policy: RetrySettings) -> list[float]:
    """Return the delay before each attempt after the first, in seconds."""
    return [
        float(min(policy.delay_seconds * 2**number, policy.max_delay_seconds)) for number in range(policy.attempts - 1)
    ]


class OpenNode:
    """A node that was started in this run: its attempts, and its outcome.

    `is_waiting` is True after an attempt failed until the next one begins. `changed` is set when an attempt begins or
    ends, and when the node is to end. `failures` are the reasons of the failed attempts, oldest first; `outcome` is
    None until the node has ended.
    """

    def __init__(self, opened: OpenRun, task: Task, rank: float, slot_lease: SlotLease) -> None:
        self.task: Task = task
        self.attempts: int = 0
        self.failures: list[str] = []
        self.is_waiting: bool = False
        self.outcome: Outcome | None = None
        self.changed: asyncio.Event = asyncio.Event()
        self._run = opened.run
        self._merge_queue = opened.merge_queue
        self._rank = rank
        self._slot_lease: SlotLease = slot_lease
        self._delays = list_delays(opened.run.settings.retry)

    @property
    def id(self) -> str:
        return self.task.id

    @property
    def is_to_end(self) -> bool:
        """Whether the run or this node was stopped."""
        return self._run.stopping.is_requested or self._run.requests.is_abort_requested(self.id)

    async def attempt(self) -> Outcome | AttemptRetry:
        """Make one attempt; return the node's outcome, or AttemptRetry if another attempt is due.

        Unexpected exceptions are raised, after the outcome is set to Failed.
        """
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
        elif self.attempts > len(self._delays):  # An attempt whose session was lost twice has begun twice.
            self.outcome = Failed(f"{ended.reason}; the work is kept, and the next run continues from there")
        else:
            self.is_waiting = True
            self.failures.append(ended.reason)
            record = self._run.nodes.records.get(self.id)
            number = record.attempt.number if record else self.attempts
            self._run.board.enter(self.id, Stage.RETRYING, self._describe_retry(number, ended.reason), activity="")
            self._run.nodes.journal.note(JournalEvent.RETRYING, self.id, attempt=number, reason=ended.reason)
            if self.is_to_end:  # It was stopped after the last stage of the attempt.
                self._run.requests.has_changed.set()
        self.changed.set()
        return ended

    def _describe_retry(self, number: int, reason: str) -> str:
        delay = self._delays[self.attempts - 1]
        return f"attempt {number} failed: {reason}; the next one begins {f'in {delay:g} s' if delay else 'at once'}"

    async def work(self) -> None:
        """Make the remaining attempts, with the configured delays between them."""
        while self.outcome is None and self.attempts <= len(self._delays):
            if self.attempts:
                await asyncio.sleep(self._delays[self.attempts - 1])
            await self.attempt()

    def close(self) -> None:
        """Release the slot and drop the user's requests for this node; call when nothing runs for it any more."""
        self._slot_lease.release()
        self._run.requests.leave(self.id)


class Launcher(Protocol):
    """Starts nodes, and shows them to the user."""

    async def start(self, node: OpenNode) -> None:
        """Call `node.attempt` until it returns an outcome; `node.work` is the simplest way to do that.

        Cancelled if the node is to end while it is waiting for its next attempt. An exception raised before the node
        has an outcome makes it Failed.
        """
        ...

    async def end(self, node: OpenNode) -> None:
        """Show that `node` ended while it was waiting for its next attempt; its outcome has the reason."""
        ...

    async def show(self, graph: Graph, endings: Mapping[str, Skipped | None]) -> None:
        """Show nodes of `graph` that do not run, in the given order: Skipped, or None if completed before this run."""
        ...


class Scheduler:
    """Schedules the nodes of one run."""

    def __init__(self, opened: OpenRun, plan: Plan, launcher: Launcher) -> None:
        self._opened = opened
        self._run = opened.run
        self._merge_queue = opened.merge_queue
        self._launcher = launcher
        self._head_check = HeadCheck(opened.run, opened.merge_queue)
        self._nodes: dict[asyncio.Task[None], OpenNode] = {}
        self._read_head: str = ""
        self._resumes_at: float = math.inf
        """When a ready node that cannot start now may be able to, in seconds since the epoch."""
        repository, watch = opened.run.git.repository, opened.run.settings.watch
        self._gate: StartGate = StartGate(
            watch, repository.worktrees_dir, opened.run.board.say, clock=opened.run.agents.clock
        )
        self.plan: Plan = plan
        opened.judge = self.judge
        opened.run.requests.explain_absence = self._explain_absence

    async def work(self) -> None:
        """Return when nothing is running and nothing may start, or the run was stopped and every session has ended.

        A cancellation stops the sessions, waits for them, and propagates.
        """
        await self._show_completed()
        try:
            await self._work()
        except asyncio.CancelledError:
            self._run.stopping.request()
            await self._end_all()
            raise
        finally:
            await self._head_check.end()
        if not self._run.stopping.is_ending:
            await self._show_skips()

    def judge(self) -> ExitCode:
        """Return the exit code of the run, judged by the graph at the head."""
        # A halted run stopped itself because no other session could do better, so the user did not interrupt it.
        is_interrupted = self._run.stopping.is_ending and not self._run.stopping.halt_reason
        plan = self.plan
        is_full = self._opened.is_full
        return find_exit_code(plan.graph, plan.only, plan.outcomes, is_interrupted=is_interrupted, is_full=is_full)

    def _explain_absence(self, node_id: str) -> str:
        """Say why `node_id` is not in progress in this run."""
        return explain_absence(node_id, self.plan, self._run.board.view.nodes, self._run.requests.open_nodes())

    async def _work(self) -> None:
        while True:
            await self._read_graph()
            tell_people(self._opened, self.plan)
            await self._start_ready()
            if self._nodes or self._resumes_at < math.inf:
                self._give_up_if_stuck()
                await self._wait()
                continue
            await self._head_check.end()
            if self._run.stopping.is_requested or not await self._is_work_added() or self._run.stopping.is_draining:
                self._explain_red_head()
                return

    def _explain_red_head(self) -> None:
        """Say that nodes were left out, if that is because the head is red."""
        left = self.plan.ready()
        if left and self._merge_queue.is_head_red and not self._run.stopping.is_ending and not self._opened.is_full:
            base = self._run.project.base_name
            verb = "was" if len(left) == 1 else "were"
            self._run.stopping.halt(
                f"{base} itself is red, so {show_some(left)} {verb} not started; fix it, and run again"
            )

    async def _is_work_added(self) -> bool:
        """Publish while no node is running; return whether the head has moved, e.g. because merges were taken back."""
        await self._merge_queue.wait_for_commits()
        await self._opened.publisher.publish_when_idle()
        return self._run.git.head.last_seen() != self._read_head

    async def _read_graph(self) -> None:
        """Reread the graph if the head has moved; if it has faults, report them and keep the previous graph."""
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
            for task_id, name in find_renamed(self.plan.graph, graph).items():
                self._run.board.show(task_id, renamed=name)
            self._run.nodes.graph = graph
            changes = self.plan.update(graph)
            for task_id, task in graph.tasks.items():  # A person may have completed one, such as a resolve task.
                if task_id in changes.added or task.is_completed:
                    self._run.board.add_node(task_id, task.name, is_completed=task.is_completed)
            for task_id in changes.reopened:
                if outcome := self.plan.outcomes.get(task_id):
                    self._run.board.end(task_id, outcome)

    # Starting nodes, and collecting those that ended.

    async def _start_ready(self) -> None:
        self._resumes_at = math.inf
        if self._run.stopping.is_ending or self._opened.is_full:
            return
        self._start_landing()
        if self._merge_queue.is_head_red:
            return  # What would be worked out on top of it could hardly land.
        places = self._run.agents.places
        shortage = await self._gate.find_shortage() if places.free and self.plan.ready() else ""
        if shortage and not self._nodes and self._gate.is_given_up():
            self._run.stopping.halt(f"{shortage}, but no session of this run uses it; free some, and run again")
            return
        for task_id in self.plan.ready():
            if not places.free or len(self._nodes) >= places.size * OPEN_PER_SESSION:
                return
            # A prerequisite lands on the head shortly before its task run has a state, and the edge needs that state.
            if not self.plan.running.isdisjoint(self.plan.graph.prerequisites(task_id)):
                continue
            task, rank = self.plan.graph.tasks[task_id], -float(self.plan.priority(task_id))
            if self._is_suspended(task) or not (lease := places.lease(task, rank)):
                continue
            if shortage and lease.place is Place.LOCAL:
                lease.release()
                self._resumes_at = min(self._resumes_at, self._gate.looks_at)
            else:
                self._start(task_id, rank, lease)
                self._head_check.begin()

    def _start_landing(self) -> None:
        """Start the nodes that a person wants to land: that needs no slot, and no agent unless one has to fix it."""
        for task_id in sorted(self._run.nodes.to_land - self.plan.running):
            if task_id not in self.plan.graph.tasks:
                self._run.nodes.to_land.discard(task_id)
            elif self.plan.land(task_id):
                self._run.nodes.to_land.discard(task_id)
                rank = -float(self.plan.priority(task_id))
                self._start(task_id, rank, self._run.agents.places.lease_later(rank))

    def _is_suspended(self, task: Task) -> bool:
        """Whether the provider of `task` accepts no prompt for so long that others should start first."""
        settings = self._run.settings
        until = find_provider(self._run, task, settings.role_of(task)).paused_until
        if until <= self._run.agents.clock() + settings.watch.suspend_seconds:
            return False
        self._resumes_at = min(self._resumes_at, until)
        return True

    def _start(self, task_id: str, rank: float, lease: SlotLease) -> None:
        self.plan.start(task_id)
        task = self.plan.graph.tasks[task_id]
        node = OpenNode(self._opened, task, rank, lease)
        self._run.board.add_node(task_id, task.name)
        self._nodes[asyncio.create_task(self._launcher.start(node), name=task_id)] = node

    async def _wait(self) -> None:
        """Wait for a node to end, for the head to move, or for a request to stop a node or the run."""
        await self._hear(self._run.changed, self._run.requests.has_changed)
        self._end_waiting(self._run.requests.is_abort_requested)
        await self._finish_done()
        if self._run.stopping.is_requested:
            await self._end_all()

    async def _end_all(self) -> None:
        """Wait until every node has ended; call after `run.stopping.request`, which makes each of them end soon."""
        while self._nodes:
            self._end_waiting(lambda task_id: True)
            await self._hear(self._run.requests.has_changed)
            await self._finish_done()

    async def _hear(self, *signals: asyncio.Event) -> None:
        waits = [asyncio.create_task(signal.wait()) for signal in signals]
        try:
            seconds = None if self._resumes_at == math.inf else max(0.0, self._resumes_at - self._run.agents.clock())
            await asyncio.wait([*self._nodes, *waits], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for signal, wait in zip(signals, waits, strict=True):
                wait.cancel()
                signal.clear()

    def _end_waiting(self, is_to_end: Callable[[str], bool]) -> None:
        """Cancel nodes that are waiting for their next attempt; a running attempt reacts to the request itself."""
        for job, node in self._nodes.items():
            if is_to_end(node.id):
                node.changed.set()
                if node.is_waiting:
                    job.cancel()

    def _give_up_if_stuck(self) -> None:
        """Stop waiting for the base if all open nodes wait for it, because then nothing else can fix it."""
        if self._nodes and self._merge_queue.waiting_for_base == len(self._nodes):
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

    # Showing nodes that do not run.

    async def _show_completed(self) -> None:
        """Show completed prerequisites of this run's nodes, so that every edge is drawn."""
        graph = self.plan.graph
        wanted = [task for task in graph.tasks.values() if not task.is_completed]
        needed = {one for task in wanted for one in task.depends_on if graph.tasks[one].is_completed}
        await self._launcher.show(graph, {task_id: None for task_id in graph.order() if task_id in needed})

    async def _show_skips(self) -> None:
        """Show each node that was never started, with the reason."""
        graph, skips = self.plan.graph, self.plan.skips()
        endings = {task_id: Skipped(skips[task_id]) for task_id in graph.order() if task_id in skips}
        for task_id, skipped in endings.items():
            self._run.board.end(task_id, skipped)
        await self._launcher.show(graph, endings)
