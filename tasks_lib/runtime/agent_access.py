"""Groups what all sessions of a run need: the backend, slots, instructions and environments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks_lib.agents.backend import Backend, Need
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.project.agent_instructions import Instructions
from tasks_lib.project.child_environment import ChildEnvironments, Kind
from tasks_lib.runtime.session_slots import SessionSlots


@dataclass(frozen=True, slots=True)
class AgentAccess:
    """Shared by all sessions of a run.

    `prompts` is the directory for prompts that a program reads from a file; `requirements` are the needs that the
    backend has been checked for.
    """

    backend: Backend
    slots: SessionSlots
    instructions: Instructions
    environments: ChildEnvironments
    prompts: Path
    requirements: set[Need] = field(default_factory=set[Need])

    @property
    def identity(self) -> Mapping[str, str]:
        """The environment variables with the committer's name and address."""
        return self.environments.identity

    def environment(self, kind: Kind, worktree: Worktree) -> dict[str, str]:
        """Return the environment of a child process in `worktree`."""
        return self.environments.of(kind, worktree.slot)
