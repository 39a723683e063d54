"""What every node's life shares while one run lasts: the repository, the backend, the board, and how to stop."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from tasks_lib.agents.backend import Backend
from tasks_lib.agents.launcher import write_launcher
from tasks_lib.errors import InputError
from tasks_lib.git.branches import read_diffstat
from tasks_lib.git.head import Head
from tasks_lib.git.objects import Objects
from tasks_lib.git.runner import local_variables
from tasks_lib.git.taskreader import TaskReader
from tasks_lib.git.worktrees import Worktree, Worktrees
from tasks_lib.graph import Graph, build_graph, check_graph
from tasks_lib.life.board import Board
from tasks_lib.life.project import Project
from tasks_lib.life.slots import Slots
from tasks_lib.naming import flatten, name_branches
from tasks_lib.process.environment import lead_path, scrub

P = ParamSpec("P")
T = TypeVar("T")
GIT_THREADS = 8
MAX_HISTORY = 100_000
"""How many first-parent commits are searched for what landed before this run."""
REPOSITORY_MARKER = "COORDINATOR_REPOSITORY"
"""The variable by which a later coordinator recognises what an earlier one, killed, left running."""
Work = Literal["setup", "agent", "verify"]


class Interrupted(Exception):  # noqa: N818 - Nothing went wrong: a person stopped the run.
    """The run is being stopped; whoever sees this keeps the work and ends."""


class Run:
    """One run over one repository. Made when the run lock is held, closed when nothing of the run is left.

    `private` is a directory of this run alone, for what agents need and no worktree may hold; the caller removes it.
    `graph` is what was last read from the head. Git works in threads of its own (`thread`); everything else happens
    on the event loop.
    """

    def __init__(
        self, project: Project, run_id: str, board: Board, backend: Backend, private: Path, max_sessions: int
    ) -> None:
        self.project: Project = project
        self.settings = project.settings
        self.repository = project.repository
        self.id: str = run_id
        self.board: Board = board
        self.backend: Backend = backend
        self.slots: Slots = Slots(max_sessions)
        self.objects: Objects = Objects(project.repository.git)
        self.reader: TaskReader = TaskReader(self.objects, project.tasks_dir, project.target)
        self.head: Head = Head(project.repository.git, project.target)
        self.worktrees: Worktrees = Worktrees(
            project.repository,
            keep=project.settings.keep,
            setup_key=project.settings.setup_key,
            pool_size=2 * max_sessions + 1,
        )
        self.graph: Graph = project.graph
        self.identity: Mapping[str, str] = project.repository.identity()
        self.moved: asyncio.Event = asyncio.Event()
        self.prompts: Path = private / "prompts"
        self._launcher = write_launcher(private / "bin", sys.executable)
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._threads = ThreadPoolExecutor(GIT_THREADS, thread_name_prefix="git")
        self._jobs: set[asyncio.Task[None]] = set()
        self._last_jobs: dict[str, asyncio.Task[None]] = {}
        self._branches: dict[str, str] = {}
        self._landed: dict[str, str] = {}
        self._is_history_read = False
        self._diffstats: dict[str, str] = {}

    # Threads, and stopping.

    async def thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking `call` in a thread for git; once begun it is waited for even when we are cancelled."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def say_soon(self, message: str) -> None:
        """Say something about the run, from a thread."""
        self._loop.call_soon_threadsafe(self.board.say, message)

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Stop the sessions and keep the work; nothing new begins."""
        self._stopping.set()
        self.moved.set()

    async def unless_stopped(self, work: Awaitable[T]) -> T:
        """The result of `work`, or Interrupted, with `work` cancelled and waited for, once the run is stopping.

        `work` that comes to its end in spite of that, as a landing does whose head is moving, counts as any other.
        """
        job = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([job, stop], return_when=asyncio.FIRST_COMPLETED)
            if not job.done():
                job.cancel()
                await asyncio.wait([job])
            if job.cancelled():
                raise Interrupted
            return job.result()
        finally:
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

    async def settle_node(self, node_id: str) -> None:
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
            names = name_branches(self.graph.tasks.values(), self.settings.branch_prefix)
            self._branches = {**names, **self._branches}
        return self._branches[task_id]

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
        return build_graph(reading.tasks)

    # Where agents and shell lines run.

    def log_path(self, node_id: str, name: str) -> Path:
        """The log file of one node, `name` such as `session-1`; its directory is made."""
        folder = self.repository.state_dir / "logs" / flatten(node_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def environment(self, work: Work, worktree: Worktree) -> dict[str, str]:
        """What a child may see: the allowed variables, who commits, and nothing that leads out of the worktree."""
        allowed: Sequence[str] = getattr(self.settings.env, work)
        own_bin = str(Path(sys.prefix) / "bin") if sys.prefix != sys.base_prefix else ""
        variables = scrub(os.environ, allowed, git_variables=local_variables(), own_bin=own_bin)
        variables = lead_path(variables, str(self._launcher)) | dict(self.identity)
        variables |= {
            "COORDINATOR_SLOT": str(worktree.slot),
            REPOSITORY_MARKER: str(self.repository.common_dir),
            # Without its `.git` file a worktree would be taken for a directory of the repository around it.
            "GIT_CEILING_DIRECTORIES": str(self.repository.worktrees_dir),
            # Nobody is there to type a passphrase, and a collection of garbage would race with our own git.
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "commit.gpgsign",
            "GIT_CONFIG_VALUE_0": "false",
            "GIT_CONFIG_KEY_1": "gc.auto",
            "GIT_CONFIG_VALUE_1": "0",
        }
        return variables

    def close(self) -> None:
        """End what the run holds open; worktrees are closed by whoever ends the run."""
        self._threads.shutdown(wait=True)
        self.objects.close()
