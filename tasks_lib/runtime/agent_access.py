"""What all sessions of one run need: the backend, slots, instructions, environments."""

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
    """Shared by all sessions.

    `prompts` is the directory for prompts that a program reads from a file, `requirements` what the backend was seen to
    be ready for.
    """

    backend: Backend
    slots: SessionSlots
    instructions: Instructions
    environments: ChildEnvironments
    prompts: Path
    requirements: set[Need] = field(default_factory=set[Need])

    @property
    def identity(self) -> Mapping[str, str]:
        """The variables that say who commits."""
        return self.environments.identity

    def environment(self, kind: Kind, worktree: Worktree) -> dict[str, str]:
        """What a child in `worktree` may see."""
        return self.environments.of(kind, worktree.slot)
