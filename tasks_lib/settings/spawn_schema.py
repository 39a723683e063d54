"""The schema of `spawn` in `coordinator.yaml`: whether sessions may spawn tasks, and how many."""

from pydantic import Field

from tasks_lib.graph.spawned_tasks import SpawnLimits
from tasks_lib.settings.value_types import Count, Section


class SpawnSettings(Section):
    """What sessions may spawn; by default nothing."""

    enabled: bool = Field(
        default=False,
        description="Whether sessions may spawn tasks; opencode sessions get the tools of `coordinator mcp` then.",
    )
    max_depth: Count = Field(
        default=2, ge=1, le=10, description="How far below a task that no session spawned tasks may be spawned."
    )
    max_tasks: Count = Field(
        default=20, ge=1, le=1000, description="How many tasks may be spawned below a task that no session spawned."
    )

    def to_limits(self) -> SpawnLimits:
        return SpawnLimits(self.enabled, self.max_depth, self.max_tasks)
