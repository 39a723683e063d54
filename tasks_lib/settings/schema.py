"""Says what can be set in `coordinator.yaml`, with its defaults and limits, and what follows from it."""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tasks_lib.errors import Fault, InputError
from tasks_lib.model import REVIEW_LEVEL, Risk, Scope, Task
from tasks_lib.naming import MAX_MESSAGE, show
from tasks_lib.prompts.templates import PromptName
from tasks_lib.settings.agent_schema import (
    PLACEHOLDERS,
    AgentSettings,
    BudgetLimits,
    BudgetSettings,
    check_not_filled_in,
)
from tasks_lib.settings.value_types import (
    DEFAULT_ROLE,
    KEPT_CONFIG,
    Count,
    Line,
    RelativePath,
    RemoteName,
    Role,
    Seconds,
    Section,
    Variable,
    Word,
    check_branch,
    check_path,
)
from tasks_lib.settings.yaml_reading import read_model
from tasks_lib.yaml_nodes import quote

__all__ = [
    "DEFAULT_ROLE",
    "KEPT_CONFIG",
    "PLACEHOLDERS",
    "ROLES",
    "AgentSettings",
    "BudgetLimits",
    "BudgetSettings",
    "EnvironmentSettings",
    "LandSettings",
    "RetrySettings",
    "ReviewSettings",
    "Settings",
    "WatchSettings",
    "digest_verify",
    "read_settings",
    "read_taskgraph_tasks_dir",
    "settings_schema",
    "starter_settings",
]

ROLES: Mapping[str, str] = {
    REVIEW_LEVEL: "code-reviewer",
    "research": "poc-specialist",
    "architecture": "architect",
    "decomposition": "decomposer",
    "planning": "decomposer",
}
_MAX_TOML = 10_000
"""Characters: Python's reader takes time with the square of a key's dots, a minute for a hundred thousand."""
_PREFIX = "COORDINATOR_"
_AGENT_VARIABLES = frozenset(
    _PREFIX + name
    for name in "TASK_ID TASK_FILE BRANCH WORKTREE ROLE ATTEMPT TURN SESSION TARGET SLOT DATA_DIR".split()  # noqa: SIM905
)
"""These say where a session is, or where data is kept; they never set anything here, `target` among them."""


class EnvironmentSettings(Section):
    """Which variables of this process a command sees besides the usual ones; PREFECT_* is never passed on."""

    setup: tuple[Variable, ...] = Field(default=(), description="Names or globs for the lines of `setup`.")
    agent: tuple[Variable, ...] = Field(
        default=(), description="Names or globs for the agent, such as ANTHROPIC_API_KEY."
    )
    verify: tuple[Variable, ...] = Field(default=(), description="Names or globs for the lines of `verify`.")


class ReviewSettings(Section):
    """When a branch is read by a reviewer before it is merged."""

    when: Literal["auto", "always", "never"] = Field(
        default="auto", description="`auto`: nodes of risk high or critical, or scope broad or system."
    )
    max_rounds: Count = Field(
        default=2, ge=1, le=10, description="How often changes that were requested go back to the author."
    )


class WatchSettings(Section):
    """How long things may take, in seconds, before they are ended."""

    turn_seconds: Seconds = Field(default=7200, gt=0, description="One turn of an agent.")
    stall_seconds: Seconds = Field(
        default=600,
        gt=0,
        description="Silence of a session that runs no tool, after which its turn is ended; opencode only.",
    )
    tool_seconds: Seconds = Field(
        default=3600,
        gt=0,
        description="Silence of a session while a tool runs, after which its turn is ended; opencode only.",
    )
    limit_seconds: Seconds = Field(
        default=900,
        gt=0,
        description="The longest wait for a provider that asks for patience; one that asks for more stops the run.",
    )
    setup_seconds: Seconds = Field(default=1800, gt=0, description="All lines of `setup` together.")
    verify_seconds: Seconds = Field(default=3600, gt=0, description="All lines of `verify` together.")
    stop_seconds: Seconds = Field(default=10, gt=0, description="From asking a process to end until it is killed.")
    nudges: Count = Field(
        default=2, ge=0, le=2, description="How often a turn that changed nothing is followed by a reminder."
    )


class RetrySettings(Section):
    """How often a node is tried, and how long to wait between attempts."""

    attempts: Count = Field(default=3, ge=1, le=10, description="Attempts in all, the first included.")
    delay_seconds: Seconds = Field(
        default=10, ge=0, description="The wait before the second attempt; it doubles each time."
    )
    max_delay_seconds: Seconds = Field(default=300, ge=0, description="The longest wait.")

    @model_validator(mode="after")
    def _check_delays(self) -> "RetrySettings":
        if self.max_delay_seconds < self.delay_seconds:
            low, high = f"{self.max_delay_seconds:g}", f"{self.delay_seconds:g}"
            raise ValueError(
                f"max_delay_seconds ({low}) is below delay_seconds ({high}); raise the one or lower the other"
            )
        return self


class LandSettings(Section):
    """Where finished work goes."""

    mode: Literal["local", "push"] = Field(
        default="local",
        description="`local`: on the local branch, and nothing is pushed. `push`: on that branch of a remote.",
    )
    remote: RemoteName = Field(default="origin", description="For `push`: the remote, as `git remote` names it.")
    fetch_seconds: Seconds = Field(
        default=30, gt=0, description="For `push`: how often the remote is asked for what others have pushed."
    )
    give_backs: Count = Field(
        default=3, ge=0, le=10, description="How often a conflict or a red verify goes back to the author."
    )
    max_file_mb: Count = Field(
        default=100, ge=1, le=100_000, description="The largest file, in MiB, that a commit of an agent may hold."
    )

    def base_ref(self, target: str) -> str:
        """The full ref that work on the branch `target` is based on."""
        return f"refs/heads/{target}" if self.mode == "local" else f"refs/remotes/{self.remote}/{target}"

    def base_name(self, target: str) -> str:
        """What a person calls that ref: `main`, or `origin/main`."""
        return target if self.mode == "local" else f"{self.remote}/{target}"


class Settings(Section):
    """Everything that `coordinator.yaml` can say; every key may be left out."""

    target: str = Field(default="", description="The branch that work lands on; empty: the one that is checked out.")
    tasks_dir: str = Field(
        default="", description="Where task files are; empty: as `.taskgraph.toml` says, else `tasks`."
    )
    max_sessions: Count = Field(default=4, ge=1, le=256, description="How many agents work at the same time.")
    agent: AgentSettings = Field(default_factory=AgentSettings, description="How a session is run.")
    roles: Mapping[str, Role] = Field(
        default_factory=dict[str, str],
        description="The agent's role for a level, where it is to be another than usual.",
    )
    branch_prefix: str = Field(default="feat/", description="What stands before a task's id in the name of its branch.")
    setup: tuple[Line, ...] = Field(default=(), description="Shell lines that make a new worktree ready.")
    setup_key: tuple[RelativePath, ...] = Field(
        default=(), description="Files that `setup` depends on, such as a lock file."
    )
    keep: tuple[RelativePath, ...] = Field(
        default=(), description="Paths that a pooled worktree keeps while `setup_key` is unchanged."
    )
    copy_paths: tuple[RelativePath, ...] = Field(
        default=(), alias="copy", description="Files not in git that are copied into each worktree, such as `.env`."
    )
    verify: tuple[Line, ...] = Field(default=(), description="Shell lines that must pass on a merge before it lands.")
    protected_paths: tuple[RelativePath, ...] = Field(
        default=(),
        description="Files and folders that only a person may let a branch change; coordinator.yaml always is.",
    )
    wrapper: tuple[Word, ...] = Field(
        default=(), description="Program and arguments put before setup, agent and verify."
    )
    env: EnvironmentSettings = Field(default_factory=EnvironmentSettings, description="Variables that are passed on.")
    review: ReviewSettings = Field(default_factory=ReviewSettings, description="When branches are reviewed.")
    watch: WatchSettings = Field(default_factory=WatchSettings, description="Limits in seconds.")
    budget: BudgetSettings = Field(default_factory=BudgetSettings, description="What agents may spend.")
    prompts: Mapping[PromptName, RelativePath] = Field(
        default_factory=dict[Any, str],
        description="Files of this repository that stand in for the prompts that come with the coordinator.",
    )
    kept_days: Count = Field(
        default=30,
        ge=0,
        le=36_500,
        description="Days after which a run forgets states that were kept, and logs of nodes that are done; 0: never.",
    )
    retry: RetrySettings = Field(default_factory=RetrySettings, description="Attempts and waits.")
    land: LandSettings = Field(default_factory=LandSettings, description="Where work goes.")

    @field_validator("target")
    @classmethod
    def _check_target(cls, target: str) -> str:
        return check_branch(target)

    @field_validator("tasks_dir")
    @classmethod
    def _check_tasks_dir(cls, path: str) -> str:
        return check_path(path) if path else path

    @field_validator("wrapper")
    @classmethod
    def _check_wrapper(cls, wrapper: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        check_not_filled_in(wrapper, _get_backend(info))
        return wrapper

    @field_validator("env")
    @classmethod
    def _check_keys_are_kept(cls, env: EnvironmentSettings, info: ValidationInfo) -> EnvironmentSettings:
        agent = info.data.get("agent")
        for key in agent.keys if isinstance(agent, AgentSettings) else ():
            for shown in env.agent:
                if fnmatchcase(key, shown) or fnmatchcase(shown, key):
                    raise ValueError(
                        f'agent passes "{show(shown)}" on to the agent\'s shell, and agent.keys keeps "{show(key)}" '
                        "from it; take one of them out"
                    )
        return env

    @field_validator("budget")
    @classmethod
    def _check_budget_can_be_kept(cls, budget: BudgetSettings, info: ValidationInfo) -> BudgetSettings:
        if _get_backend(info) == "command" and (unknown := budget.find_unknown_to_programs()):
            raise ValueError(
                f"sets {', '.join(unknown)}, and with agent.backend command nobody tells of tokens or cost; set turns "
                "or seconds"
            )
        return budget

    @field_validator("branch_prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        if not prefix:
            raise ValueError("is empty, and a task could take the name of another branch; write one such as `feat/`")
        check_branch(f"{prefix}x")
        return prefix

    def role_for(self, level: str | None) -> str:
        """The agent's role for a node of `level`: as `roles` says, else the usual one."""
        name = (level or "implementation").casefold()
        chosen = {key.casefold(): role for key, role in self.roles.items()}
        return chosen.get(name) or ROLES.get(name, DEFAULT_ROLE)

    def model_for(self, task: Task, role: str) -> str:
        """`provider/model` for a session of `role` that works `task`; "" for the role's own, or the usual one.

        What the task file names is for the role that works it: who reviews its branch has the model of a reviewer.
        """
        is_worker = role == self.role_for(task.level)
        return (task.model if is_worker else "") or self.agent.models.get(role, "")

    def wants_review(self, task: Task) -> bool:
        """Whether the branch of `task` is reviewed before it is merged; a review node is not reviewed in its turn."""
        if task.is_review or self.review.when == "never":
            return False
        is_weighty = task.risk in (Risk.HIGH, Risk.CRITICAL) or task.scope in (Scope.BROAD, Scope.SYSTEM)
        return self.review.when == "always" or is_weighty


def _get_backend(info: ValidationInfo) -> str:
    """The backend, "" where what was given for it is a fault of its own."""
    agent = info.data.get("agent")
    return agent.backend if isinstance(agent, AgentSettings) else ""


def read_settings(text: str, path: str, environment: Mapping[str, str]) -> Settings:
    """The settings in `text`, the content of `path` ("" for none), with `COORDINATOR_*` variables above them.

    `COORDINATOR_RETRY__ATTEMPTS=2` sets `retry.attempts`; lists are written as YAML. Variables that name no key, and
    those that an agent gets, are passed over. Raises InputError with every fault: file and line, or the variable.
    """
    return read_model(Settings, text, path, environment, _PREFIX, _AGENT_VARIABLES)


def settings_schema() -> dict[str, Any]:
    """The JSON schema of `coordinator.yaml`."""
    schema = Settings.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "coordinator.yaml"}


def digest_verify(settings: Settings) -> str:
    """What stands in the trailer `Verified:`: 16 hex digits that change when what verifies does, or `none`."""
    if not settings.verify:
        return "none"
    parts = {"setup": settings.setup, "verify": settings.verify, "wrapper": settings.wrapper}
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def read_taskgraph_tasks_dir(text: str, path: str) -> str | None:
    """`[project] tasks_dir` of a `.taskgraph.toml`, or None if it does not say; raises InputError."""
    if len(text) > _MAX_TOML:
        raise InputError([Fault(path, 0, f"has {len(text)} characters; at most {_MAX_TOML} are read, so shorten it")])
    try:
        document: Mapping[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not TOMLDecodeError: a number that is too long has none.
        line = re.search(r"at line (\d+)", str(error))
        message = f"is not valid TOML: {show(str(error), MAX_MESSAGE // 2)}; mend it"
        raise InputError([Fault(path, int(line[1]) if line else 0, message)]) from error
    project: Any = document.get("project", {})
    if not isinstance(project, Mapping):
        raise InputError([Fault(path, _find_line(text, "project"), "project is not a table; write `[project]`")])
    value: Any = cast("Mapping[str, Any]", project).get("tasks_dir")
    try:
        return check_path(value) if value else None
    except ValueError as error:
        raise InputError([Fault(path, _find_line(text, "tasks_dir"), f"tasks_dir {error}")]) from error


def _find_line(text: str, key: str) -> int:
    found = re.search(rf"^[ \t]*\[?[ \t]*[\"']?{key}\b", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 0


def starter_settings(verify: Sequence[str], command: Sequence[str] = (), *, has_opencode: bool = False) -> str:
    """A short `coordinator.yaml` to begin with; `verify` are shell lines, `command` an agent's argument list.

    Without a command the agent is opencode, if it is there; else it is left for a person to name.
    """
    lines = "".join(f"  - {quote(line)}\n" for line in verify)
    return f"""\
# How tasks are worked on in this repository. Every key may be left out.

# How many agents work at the same time.
max_sessions: 4

{_OPENCODE_STARTER if has_opencode and not command else _start_command(command)}
# Shell lines that make a new worktree ready.
# setup:
#   - npm ci

# Shell lines that must pass on every merge before it lands.
{f"verify:{chr(10)}{lines}" if lines else f"# verify:{chr(10)}#   - make test{chr(10)}"}"""


_OPENCODE_STARTER = """\
# The agent: opencode, with the providers that you are logged in to (`opencode auth login`).
agent:
  backend: opencode
  # As `opencode models` lists it; left out, the one that your own opencode configuration names.
  # model: anthropic/claude-sonnet-4-5
"""


def _start_command(command: Sequence[str]) -> str:
    given = f"[{', '.join(map(quote, command))}]" if command else '[my-agent, --role, "{role}", "{prompt_file}"]'
    mark = "" if command else "# "
    text = f"""\
# The agent: program and arguments, run without a shell in a worktree, the prompt on standard input.
# {{role}}, {{prompt_file}} and {{session}} are filled in.
{mark}agent:
{mark}  command: {given}
"""
    if command:
        return text
    return f"""{text}
# Or opencode, once it is installed:
# agent:
#   backend: opencode
#   model: anthropic/claude-sonnet-4-5
"""
