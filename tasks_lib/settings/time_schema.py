"""The schema of `watch` and `retry` in `coordinator.yaml`: how long things may take, and how often they are tried."""

from pydantic import Field, model_validator

from tasks_lib.settings.value_types import Count, Seconds, Section


class WatchSettings(Section):
    """How long things may take, in seconds, before they are stopped, and what must be left for another session."""

    turn_seconds: Seconds = Field(default=7200, gt=0, description="Time limit for one turn of an agent.")
    stall_seconds: Seconds = Field(
        default=600,
        gt=0,
        description="Stop a turn in which nothing happens for this long while no tool is running.",
    )
    tool_seconds: Seconds = Field(
        default=3600,
        gt=0,
        description="Stop a turn in which nothing happens for this long while a tool is running.",
    )
    input_seconds: Seconds = Field(
        default=120,
        gt=0,
        description="Stop a turn in which nothing happens for this long while a program waits for input at a terminal.",
    )
    limit_seconds: Seconds = Field(
        default=900,
        gt=0,
        description="Maximum wait for a provider's rate limit; the run stops if the provider asks for a longer one.",
    )
    suspend_seconds: Seconds = Field(
        default=60,
        gt=0,
        description="A session whose provider accepts no request for longer than this gives its place to another node.",
    )
    setup_seconds: Seconds = Field(default=1800, gt=0, description="Time limit for all lines of `setup` together.")
    verify_seconds: Seconds = Field(default=3600, gt=0, description="Time limit for all lines of `verify` together.")
    stop_seconds: Seconds = Field(
        default=10, gt=0, description="Time a process has to exit when asked, before it is killed."
    )
    memory_mb: Count | None = Field(
        default=None,
        ge=0,
        description="Maximum memory of one session's processes, in megabytes, 0 for any; by default half of the "
        "machine's. The largest process is ended.",
    )
    free_memory_mb: Count = Field(
        default=512, ge=0, description="No session starts while less memory is available, in megabytes."
    )
    free_disk_mb: Count = Field(
        default=1024, ge=0, description="No session starts while less of the worktrees' disk is free, in megabytes."
    )
    conflict_seconds: Seconds = Field(
        default=30,
        ge=0,
        description="How often to look at the branches of active sessions for conflicts that are coming, 0 for never. "
        "Commits and the ends of tools are noticed sooner; many sessions in a large repository are looked at up to "
        "four times less often.",
    )
    nudges: Count = Field(
        default=2, ge=0, le=2, description="How many reminders an agent gets when its turn ends unfinished."
    )


class RetrySettings(Section):
    """How many times a node is attempted, and how long to wait between attempts."""

    attempts: Count = Field(default=3, ge=1, le=10, description="Maximum attempts, including the first.")
    delay_seconds: Seconds = Field(
        default=10, ge=0, description="Wait before the second attempt; doubles with each further attempt."
    )
    max_delay_seconds: Seconds = Field(default=300, ge=0, description="Maximum wait between attempts.")

    @model_validator(mode="after")
    def _check_delays(self) -> "RetrySettings":
        if self.max_delay_seconds < self.delay_seconds:
            low, high = f"{self.max_delay_seconds:g}", f"{self.delay_seconds:g}"
            raise ValueError(
                f"max_delay_seconds ({low}) is below delay_seconds ({high}); raise the first or lower the second"
            )
        return self
