"""The schema of `spokes` in `coordinator.yaml`: which sessions run on other machines, and how they are reached."""

from enum import StrEnum
from typing import Literal

from pydantic import Field, field_validator

from tasks_lib.model import Task
from tasks_lib.settings.value_types import Count, Role, Seconds, Section, Word, check_remote


class Place(StrEnum):
    """Where a session runs."""

    LOCAL = "local"
    SPOKES = "spokes"


class SpokeSettings(Section):
    """Which sessions run on other machines (spokes); without `remote`, none does."""

    remote: str = Field(
        default="",
        description="The git remote that all machines reach. Naming it permits pushing there below refs/coordinator/.",
    )
    repository: Word = Field(
        default="", description="The repository's name on spokes; defaults to the last part of the remote's URL."
    )
    work_pool: Word = Field(default="coordinator-sessions", description="The Prefect work pool of the spokes.")
    sessions_each: Count = Field(default=4, ge=1, le=256, description="How many agents run on each spoke at a time.")
    prefer: Literal["local", "spokes", "only"] = Field(
        default="local",
        description="`local`: spokes when `max_sessions` agents run here. `spokes`: this machine when they are full. "
        "`only`: agents never run here.",
    )
    roles: tuple[Role, ...] = Field(default=(), description="Only sessions of these roles go to spokes; empty for all.")
    tags: tuple[Word, ...] = Field(
        default=(), description="Only tasks with one of these tags go to spokes; empty for all."
    )

    lost_seconds: Seconds = Field(
        default=120.0,
        ge=60.0,
        le=86_400.0,
        description="A session of which nothing is heard for so long, while Prefect's server answers, is lost; an "
        "attempt elsewhere continues from what it pushed.",
    )

    @field_validator("remote")
    @classmethod
    def _check_remote(cls, name: str) -> str:
        return check_remote(name) if name else name

    def list_places(self, task: Task, role: str) -> tuple[Place, ...]:
        """The places where the session of `task` with `role` may run, the preferred one first; never empty.

        What the task file says in `runs_on` takes precedence.
        """
        if not self.remote:
            return (Place.LOCAL,)
        if task.runs_on:
            return (Place.LOCAL,) if task.runs_on == Place.LOCAL else (Place.SPOKES,)
        is_for_spokes = (not self.roles or role in self.roles) and (
            not self.tags or not set(self.tags).isdisjoint(task.tags)
        )
        if not is_for_spokes:
            return (Place.LOCAL,)
        match self.prefer:
            case "only":
                return (Place.SPOKES,)
            case "spokes":
                return (Place.SPOKES, Place.LOCAL)
            case "local":
                return (Place.LOCAL, Place.SPOKES)


def find_machine(task: Task) -> str:
    """The spoke that a task file asks for by name, "" for any."""
    return "" if task.runs_on in (Place.LOCAL, Place.SPOKES) else task.runs_on
