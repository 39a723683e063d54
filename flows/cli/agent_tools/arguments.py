"""The arguments of the tools, as models call them: each field has a description that the model reads."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flows.request_messages import MAX_CHARS, Policy

MOST_SECONDS = 50.0
"""How long a call may wait: clients give up on a call after a minute, some sooner."""
TARGET = "A session id, or the id of its task."


class Arguments(BaseModel):
    """Immutable; unknown fields are refused, so that a misspelled one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SpawnArguments(Arguments):
    task: str = Field(
        default="",
        max_length=MAX_CHARS,
        description="The whole text of a new task file: YAML front matter between two `---` lines with at least `id` "
        "and `name`, then markdown.",
    )
    id: str = Field(default="", description="Instead of `task`: the id of a task that has a file already.")
    start: bool = Field(default=False, description="Start a run if none is in progress.")
    wait_seconds: float = Field(
        default=10.0, ge=0, le=MOST_SECONDS, description="How long to wait until the task has a session."
    )

    @model_validator(mode="after")
    def _check_one(self) -> "SpawnArguments":
        if bool(self.task) == bool(self.id):
            raise ValueError("give either the text of a new task file as `task`, or the `id` of an existing task")
        return self


class StatusArguments(Arguments):
    parent: str = Field(default="", description=f"{TARGET} Lists only what it has spawned, directly or not.")
    nodes: tuple[str, ...] = Field(default=(), description="Lists only these; each is a session id or a task's id.")
    wait_seconds: float = Field(
        default=0.0,
        ge=0,
        le=MOST_SECONDS,
        description="Wait so long until one of those listed that has not ended yet does; 0 answers at once.",
    )


class MessageArguments(Arguments):
    session: str = Field(min_length=1, description=TARGET)
    message: str = Field(min_length=1, max_length=MAX_CHARS, description="What its agent should know.")


class AbortArguments(Arguments):
    session: str = Field(min_length=1, description=TARGET)
    policy: Policy = Field(
        default="abort-dependents",
        description="abort-dependents: what it has spawned ends too. continue-running: what is in progress continues.",
    )


class ReportArguments(Arguments):
    run: str = Field(default="", description="A run's id, or its beginning; by default the newest run.")
    milestone: str = Field(
        default="", description="Instead of a run: the tasks with this tag, in this folder, or with this `milestone`."
    )


class NoArguments(Arguments):
    """None."""
