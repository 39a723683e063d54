"""What every node's life shares while one run lasts: the repository, the backend, the board, and how to stop."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tasks_lib.agents.backend import Backend, Need
from tasks_lib.errors import InputError
from tasks_lib.git.commits.branch_state import read_diffstat
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.session_record import Record
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees
from tasks_lib.graph.task_graph import Graph, build_graph, check_graph
from tasks_lib.naming import flatten, name_branches
from tasks_lib.project.agent_instructions import Instructions
from tasks_lib.project.child_environment import ChildEnvironments, Kind
from tasks_lib.project.loading import Project
from tasks_lib.runtime.budgets import RunBudgets
from tasks_lib.runtime.session_slots import SessionSlots
from tasks_lib.runtime.shared_state_watch import SharedStateWatch
from tasks_lib.runtime.status_board import Board
from tasks_lib.runtime.user_requests import UserRequests

P = ParamSpec("P")
T = TypeVar("T")
GIT_THREADS = 8
MAX_HISTORY = 100_000
"""How many first-parent commits are searched for what landed before this run."""


class Interrupted(Exception):  # noqa: N818 - Nothing went wrong: a person stopped the run, or the node.
    """The run, or the node, is being stopped; whoever sees this keeps the work and ends."""


class Run:
    """One run over one repository. Made when the run lock is held, closed when nothing of the run is left.

    `private` is a directory of this run alone, for what agents need and no worktree may hold; the caller removes it.
    `graph` is what was last read from the head, `needs` what the backend was seen to be ready for, `records` what was
    noted of each node that has not landed, `waits` what a stop would have to wait for now. Git works in threads of its
    own (`thread`); everything else happens on the event loop.
    """

    def __init__(
        self,
        project: Project,
        run_id: str,
        board: Board,
        backend: Backend,
        surroundings: ChildEnvironments,
        instructions: Instructions,
        private: Path,
        max_sessions: int,
    ) -> None:
        self.project: Project = project
        self.settings = project.settings
        self.repository = project.repository
        self.id: str = run_id
        self.board: Board = board
        self.backend: Backend = backend
        self.slots: SessionSlots = SessionSlots(max_sessions)
        self.objects: Objects = Objects(project.repository.git)
        self.reader: TaskReader = TaskReader(self.objects, project.tasks_dir, project.target)
        self.head: Head = project.open_head(on_foreign_move=self.say_from_thread)
        self.isolation: IsolatedGit = IsolatedGit(project.repository.git, private / "isolation")
        self.worktrees: Worktrees = Worktrees(
            project.repository,
            isolation=self.isolation,
            keep=project.settings.keep,
            setup_key=project.settings.setup_key,
            copied=project.settings.copy_paths,
            pool_size=2 * max_sessions + 1,
            say=self.say_from_thread,
        )
        self.graph: Graph = project.graph
        self.identity: Mapping[str, str] = surroundings.identity
        self.shared: SharedStateWatch = SharedStateWatch(
            project.repository, self.list_moving_refs, self.say_from_thread
        )
        self.purse: RunBudgets = RunBudgets(project.settings.budget)
        self.desk: UserRequests = UserRequests()
        self.records: dict[str, Record] = {}
        self.halt_reason: str = ""
        self.waits: dict[str, int] = {}
        self.needs: set[Need] = set()
        self.moved: asyncio.Event = asyncio.Event()
        self.prompts: Path = private / "prompts"
        self._surroundings = surroundings
        self.instructions: Instructions = instructions
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._threads = ThreadPoolExecutor(GIT_THREADS, thread_name_prefix="git")
        # Threads of their own, because there they wait for their turn at the disk, and others would wait behind them.
        self._openers = ThreadPoolExecutor(max_sessions, thread_name_prefix="worktree")
        self._jobs: set[asyncio.Task[None]] = set()
        self._last_jobs: dict[str, asyncio.Task[None]] = {}
        self._branches: dict[str, str] = {}
        self._landed: dict[str, str] = {}
        self._is_history_read = False
        self._diffstats: dict[str, str] = {}

    # Threads, and stopping.

    async def thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking `call` in a thread for git; once begun it is waited for even when we are cancelled."""
        return await self._wait_for(self._threads, lambda: call(*args, **kwargs))

    async def opening_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `thread`, for a `call` that makes a worktree: of each session that begins, one at a time."""
        return await self._wait_for(self._openers, lambda: call(*args, **kwargs))

    async def _wait_for(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(threads, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                # Cancelled again, we still wait: who leaves at once ends the git that the thread waits for.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            raise

    def say_from_thread(self, message: str) -> None:
        """Say something about the run, from a thread."""
        self._loop.call_soon_threadsafe(self.board.say, message)

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Stop the sessions and keep the work; nothing new begins."""
        self._stopping.set()
        self.moved.set()

    @contextmanager
    def waiting_for(self, what: str) -> Generator[None]:
        """Note that a stop has to wait for `what`, such as "the push to origin", while the block runs."""
        self.waits[what] = self.waits.get(what, 0) + 1
        try:
            yield
        finally:
            self.waits[what] -= 1
            if not self.waits[what]:
                del self.waits[what]

    def halt(self, reason: str) -> None:
        """Stop because no session can do better as things are; said once, however many sessions find it out."""
        if not self.halt_reason:
            self.halt_reason = reason
            self.board.say(f"The run stops: {reason}")
        self.stop()

    async def unless_stopped(self, work: Awaitable[T], node_id: str) -> T:
        """The result of `work` for a node, or Interrupted, with `work` cancelled and waited for, once the run is
        stopping or a person stops the node.

        `work` that comes to its end in spite of that, as a landing does whose head is moving, counts as any other.
        """
        job = asyncio.ensure_future(work)
        stops = [asyncio.ensure_future(one.wait()) for one in (self._stopping, self.desk.abort_event(node_id))]
        try:
            await asyncio.wait([job, *stops], return_when=asyncio.FIRST_COMPLETED)
            if not job.done():
                job.cancel()
                await asyncio.wait([job])
            if job.cancelled():
                raise Interrupted
            return job.result()
        finally:
            for stop in stops:
                stop.cancel()
            if not job.done():
                job.cancel()
                await asyncio.wait([job])

    def in_background(self, node_id: str, work: Coroutine[Any, Any, None], what: str) -> None:
        """Do `work` for a node beside everything else; `settle` waits for it, and a failure is said, not raised."""
        job = asyncio.create_task(work, name=what)
        self._jobs.add(job)
        self._last_jobs[node_id] = job
        job.add_done_callback(self._end_job)

    async def wait_for_node_background(self, node_id: str) -> None:
        """Wait for what goes on in the background for a node that is worked again."""
        if job := self._last_jobs.pop(node_id, None):
            await asyncio.wait([job])

    def _end_job(self, job: "asyncio.Task[None]") -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()):
            self.board.say(f"Could not {job.get_name()}: {error}. Nothing is lost; the next run tries again.")

    async def settle(self) -> None:
        """Wait for everything that goes on in the background."""
        while self._jobs:
            await asyncio.wait(self._jobs)

    # What the graph and the configuration say.

    def branch_of(self, task_id: str) -> str:
        """The branch of a node; a name once given in this run stays."""
        if task_id not in self._branches:
            names = name_branches(self.graph.tasks.values(), self.settings.branch_prefix, target=self.head.target)
            self._branches = {**names, **self._branches}
        return self._branches[task_id]

    def list_moving_refs(self) -> set[str]:
        """The full refs that move while a run goes on as it should: the target, and the branches of nodes."""
        branches = {self.branch_of(task_id) for task_id in tuple(self.graph.tasks)}
        return {f"refs/heads/{branch}" for branch in (self.project.target, *branches)}

    def diffstat(self, task_id: str) -> str:
        """What the merge of a landed node changed, "" if it has none; asked of git once. Call in a thread."""
        if not self._is_history_read:
            self._landed = {**self.head.find_landed(self.head.current(), MAX_HISTORY), **self._landed}
            self._is_history_read = True
        commit = self._landed.get(task_id)
        if commit is None:
            return ""
        if commit not in self._diffstats:
            self._diffstats[commit] = read_diffstat(self.repository.git, commit)
        return self._diffstats[commit]

    def remember_landed(self, task_id: str, commit: str) -> None:
        self._landed[task_id] = commit

    def read_graph_at(self, commit: str) -> Graph:
        """The graph at `commit`; raises InputError naming every fault. Call in a thread."""
        reading = self.reader.read(commit)
        if errors := [fault for fault in reading.faults if not fault.is_warning]:
            raise InputError([*errors, *(fault for fault in check_graph(reading.tasks) if not fault.is_warning)])
        return build_graph(reading.tasks, like=self.graph)

    # Where agents and shell lines run.

    def log_path(self, node_id: str, name: str) -> Path:
        """The log file of one node, `name` such as `session-1`; its directory is made."""
        folder = self.repository.state_dir / "logs" / flatten(node_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def environment(self, kind: Kind, worktree: Worktree) -> dict[str, str]:
        """What a child in `worktree` may see."""
        return self._surroundings.of(kind, worktree.slot)

    def close(self) -> None:
        """End what the run holds open; worktrees are closed by whoever ends the run."""
        self._openers.shutdown(wait=True)
        self._threads.shutdown(wait=True)
        self.objects.close()
