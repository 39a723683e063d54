"""Composes what all nodes of a run share: git, agents, budgets, user requests, stopping and the status board."""

import asyncio
from pathlib import Path

from tasks_lib.naming import flatten
from tasks_lib.project.loading import Project
from tasks_lib.runtime.agent_access import AgentAccess
from tasks_lib.runtime.background_jobs import BackgroundJobs
from tasks_lib.runtime.budgets import RunBudgets
from tasks_lib.runtime.git_access import GitAccess
from tasks_lib.runtime.node_registry import NodeRegistry
from tasks_lib.runtime.shared_state_watch import SharedStateWatch
from tasks_lib.runtime.status_board import Board
from tasks_lib.runtime.stopping import Stopping
from tasks_lib.runtime.user_requests import UserRequests
from tasks_lib.settings.schema import Settings


class Run:
    """One run over one repository. Create it once the run lock is held; close it when nothing of the run is left.

    `private` is this run's own directory for files that agents need but no worktree may contain; the caller removes
    it. `changed` is set when more nodes may be able to start: the head moved, a slot is free, or a stop was requested.
    """

    def __init__(self, project: Project, run_id: str, board: Board, agents: AgentAccess, private: Path) -> None:
        self.project: Project = project
        self.id: str = run_id
        self.board: Board = board
        self.agents: AgentAccess = agents
        self.changed: asyncio.Event = asyncio.Event()
        self.git: GitAccess = GitAccess(project, private, agents.places.size, self.say_from_thread)
        self.nodes: NodeRegistry = NodeRegistry(project, self.git)
        self.shared_state: SharedStateWatch = SharedStateWatch(
            project.repository, self.nodes.list_moving_refs, self.say_from_thread, project.tasks_dir
        )
        self.budgets: RunBudgets = RunBudgets(project.settings.budget, lambda: self.nodes.graph.tasks)
        self.requests: UserRequests = UserRequests()
        self.stopping: Stopping = Stopping(self.requests, self.changed.set, board.say)
        self.background: BackgroundJobs = BackgroundJobs(board.say)
        self._loop = asyncio.get_running_loop()

    @property
    def settings(self) -> Settings:
        return self.project.settings

    def say_from_thread(self, message: str) -> None:
        """Report a message about the run from a thread."""
        self._loop.call_soon_threadsafe(self.board.say, message)

    def log_path(self, node_id: str, name: str) -> Path:
        """Return the path of a node's log, with a `name` such as `session-1`; creates its directory."""
        folder = self.git.repository.state_dir / "logs" / flatten(node_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"
