"""Gives the nodes of a run access to the repository, and the threads in which git runs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.objects.quarantine import Quarantine
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.repository import Repository
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.process.thread_calls import call_to_end
from tasks_lib.project.loading import Project

P = ParamSpec("P")
T = TypeVar("T")
GIT_THREADS = 8


class GitAccess:
    """The git objects that the nodes of a run share.

    All of them block, and so does every function that takes one of them: use `call` from the event loop. `private` is
    this run's own directory; `say` may be called from any thread.
    """

    def __init__(
        self,
        project: Project,
        private: Path,
        max_sessions: int,
        say: Callable[[str], None],
    ) -> None:
        settings = project.settings
        self.repository: Repository = project.repository
        self.objects: Objects = Objects(project.repository.git)
        self.reader: TaskReader = TaskReader(self.objects, project.tasks_dir, project.target)
        self.head: Head = project.open_head(on_foreign_move=say)
        self.isolation: IsolatedGit = IsolatedGit(project.repository.git, private / "isolation")
        self.quarantine: Quarantine = Quarantine(project.repository.git, private / "quarantine")
        self.worktrees: Worktrees = Worktrees(
            project.repository,
            isolation=self.isolation,
            keep=settings.keep,
            setup_key=settings.setup_key,
            copied=settings.copy_paths,
            pool_size=2 * max_sessions + 1,
            say=say,
        )
        self._threads = ThreadPoolExecutor(GIT_THREADS, thread_name_prefix="git")
        # A separate pool: these calls wait for their turn at the disk, and would make others wait behind them.
        self._openers = ThreadPoolExecutor(max_sessions, thread_name_prefix="worktree")

    async def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking `call` in a git thread; once submitted it is awaited even if the caller is cancelled."""
        return await call_to_end(lambda: call(*args, **kwargs), self._threads)

    async def call_opening(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `call`, for creating worktrees; each session that starts makes one such call at a time."""
        return await call_to_end(lambda: call(*args, **kwargs), self._openers)

    def close(self) -> None:
        """End the threads and git's helper processes; close the worktrees first."""
        self._openers.shutdown(wait=True)
        self._threads.shutdown(wait=True)
        self.objects.close()
