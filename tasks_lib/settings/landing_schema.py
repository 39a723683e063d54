"""The schema of `review`, `safe_exit` and `land` in `coordinator.yaml`: what happens to work once a turn is over."""

from typing import Literal

from pydantic import Field, field_validator

from tasks_lib.model import REVIEW_LEVEL
from tasks_lib.settings.value_types import Count, RemoteName, Seconds, Section, Word


class ReviewSettings(Section):
    """When a branch is reviewed before it is merged."""

    when: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="`auto`: nodes with risk high or critical, or scope broad or system, and those that the next three "
        "keys choose.",
    )
    diff_lines: Count = Field(
        default=500,
        ge=0,
        le=1_000_000,
        description="For `auto`: from how many changed lines on a branch is reviewed; 0 for no review because of that.",
    )
    critical_path: bool = Field(
        default=False, description="For `auto`: nodes on the critical path of the open graph that others wait for."
    )
    levels: tuple[Word, ...] = Field(default=(), description="For `auto`: nodes of these levels.")
    max_rounds: Count = Field(
        default=2,
        ge=1,
        le=10,
        description="How often changes are requested of an author, or of follow-up tasks.",
    )

    @field_validator("levels")
    @classmethod
    def _check_levels(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        if REVIEW_LEVEL in map(str.casefold, levels):
            raise ValueError(f"names the level {REVIEW_LEVEL}, but reviews are not reviewed themselves; remove it")
        return levels


class SafeExitSettings(Section):
    """What happens when a node blocks, before a person is asked."""

    resolver: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Whether a resolver is asked about a blocker first. `auto`: with the backend opencode only.",
    )
    resolver_turns: Count = Field(
        default=1, ge=1, le=5, description="How many resolver turns a node may have until a person has unblocked it."
    )
    resolver_seconds: Seconds = Field(default=900, gt=0, description="Time limit for one turn of a resolver.")


class LandSettings(Section):
    """Where finished work lands."""

    mode: Literal["local", "push"] = Field(
        default="local",
        description="`local`: update the local branch and push nothing. `push`: push to the branch on a remote.",
    )
    remote: RemoteName = Field(default="origin", description="For `push`: the remote, as `git remote` lists it.")
    fetch_seconds: Seconds = Field(
        default=30, gt=0, description="For `push`: seconds between fetches of the remote's target branch."
    )
    ask: bool = Field(default=False, description="Whether a person has to let each verified branch land.")
    give_backs: Count = Field(
        default=3, ge=0, le=10, description="How many times a conflict or a failed verify is returned to the author."
    )
    max_file_mb: Count = Field(
        default=100, ge=1, le=100_000, description="The largest file, in MiB, that an agent may commit."
    )

    def base_ref(self, target: str) -> str:
        """The full ref that work for the branch `target` is based on."""
        return f"refs/heads/{target}" if self.mode == "local" else f"refs/remotes/{self.remote}/{target}"

    def base_name(self, target: str) -> str:
        """The short name of that ref: `main` or `origin/main`."""
        return target if self.mode == "local" else f"{self.remote}/{target}"
