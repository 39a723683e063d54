"""What the sessions of one repository share on the machine where they run: worktrees, environments, the agent."""

import asyncio
from pathlib import Path

from tasks_lib.agents.backend import Backend, Need
from tasks_lib.errors import ShellError
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.inspection.content_marks import list_made, read_content_marks
from tasks_lib.git.remote_sessions.missing_submodule import explain_missing
from tasks_lib.git.remote_sessions.session_repository import SessionRepository
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees
from tasks_lib.graph.task_graph import build_graph
from tasks_lib.project.agent_instructions import read_project_instructions
from tasks_lib.project.child_environment import ChildEnvironments
from tasks_lib.project.loading import CONFIGURATION, Project
from tasks_lib.runtime.backend_factory import check_agent, make_backend
from tasks_lib.runtime.copied_files import copy_in
from tasks_lib.runtime.setup_and_verify import run_setup
from tasks_lib.settings.schema import Settings, digest_sessions, read_settings
from tasks_lib.settings.spawn_schema import SpawnSettings

FILES = "files"
"""The directory, next to a repository, from which `copy` in the configuration takes its files on this machine."""


class Workspace:
    """The shared parts for sessions with one state of the configuration; close it after its last session.

    `private` is a directory of the machine's worker, `data` outlives it. `place` is the directory of the repository.
    """

    def __init__(
        self, repository: SessionRepository, settings: Settings, commit: str, private: Path, data: Path
    ) -> None:
        self.repository: SessionRepository = repository
        self.settings: Settings = settings
        inner = repository.repository
        graph = build_graph(())
        # The tools of `coordinator mcp` need the run, which is not on this machine.
        here = settings.model_copy(update={"spawn": SpawnSettings()})
        self._project = Project(inner, here, repository.target, settings.tasks_dir, commit, graph, ())
        self._private = private
        self._data = data
        self._backend: Backend | None = None
        self._preparing = asyncio.Lock()
        self.environments: ChildEnvironments = ChildEnvironments(settings, inner, private)
        self.isolation: IsolatedGit = IsolatedGit(inner.git, private / "isolation")
        self.worktrees: Worktrees = Worktrees(
            inner,
            isolation=self.isolation,
            keep=settings.keep,
            setup_key=settings.setup_key,
            copied=settings.copy_paths,
            pool_size=0,
            slots=repository.slots,
        )
        self.prompts: Path = private / "prompts"
        self.files: Path = inner.common_dir.parent / FILES / inner.common_dir.name.removesuffix(".git")

    async def set_up(self, worktree: Worktree, log: Path) -> tuple[str, ...]:
        """Bring files into a new worktree and run `setup`; return marks of what that left uncommitted.

        Raises ShellError, with a hint if a submodule's commit is missing.
        """
        for name in self.settings.copy_paths:
            await asyncio.to_thread(copy_in, self.files / name, worktree.path, name)
        if not self.settings.setup:
            return ()
        before = await asyncio.to_thread(read_content_marks, worktree)
        try:
            await run_setup(self.settings, self.environments.of("setup", worktree.slot), worktree.path, log)
        except ShellError as error:
            copy = self.repository.repository.common_dir
            hint = await asyncio.to_thread(explain_missing, worktree.git, copy, error.tail)
            raise ShellError(error.line, error.status, f"{error.tail}\n{hint}".rstrip(), error.log) from error
        return list_made(before, await asyncio.to_thread(read_content_marks, worktree), {})

    async def prepare(self, need: Need) -> Backend:
        """Return the agent's backend, ready for sessions as `need` says. Raises InputError with every fault."""
        async with self._preparing:
            if self._backend is None:
                await asyncio.to_thread(check_agent, self._project)
                instructions = await asyncio.to_thread(read_project_instructions, self._project)
                self._backend = make_backend(self._project, instructions, self.environments, self._data, self._private)
        await self._backend.prepare([need])
        return self._backend

    async def close(self) -> None:
        """End the agent's servers and everything that sessions left running."""
        if self._backend is not None:
            await self._backend.close()
        await asyncio.to_thread(self.worktrees.close)


def read_session_settings(text: str) -> tuple[Settings, str]:
    """Read the configuration of sessions, and its digest; nothing of this machine's environment changes it.

    Raises InputError.
    """
    settings = read_settings(text, CONFIGURATION, {})
    return settings, digest_sessions(settings)
