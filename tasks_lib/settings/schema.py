"""The schema of `coordinator.yaml`: its keys with their defaults and limits, and what follows from them."""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

from pydantic import Field, ValidationInfo, field_validator

from tasks_lib.errors import Fault, InputError
from tasks_lib.model import RESOLVER, REVIEW_LEVEL, Task
from tasks_lib.naming import MAX_MESSAGE, show
from tasks_lib.prompts.templates import PromptName
from tasks_lib.settings.agent_schema import (
    PLACEHOLDERS,
    AgentSettings,
    BudgetLimits,
    BudgetSettings,
    check_not_filled_in,
)
from tasks_lib.settings.landing_schema import LandSettings, ReviewSettings, SafeExitSettings
from tasks_lib.settings.notify_schema import NotifySettings
from tasks_lib.settings.report_schema import ReportSettings
from tasks_lib.settings.review_choice import NO_FACTS, WorkFacts, explain_review, may_be_reviewed
from tasks_lib.settings.spawn_schema import SpawnSettings
from tasks_lib.settings.spoke_schema import SpokeSettings
from tasks_lib.settings.time_schema import RetrySettings, WatchSettings
from tasks_lib.settings.value_types import (
    DEFAULT_ROLE,
    KEPT_CONFIG,
    Count,
    Line,
    RelativePath,
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
    "NotifySettings",
    "RetrySettings",
    "ReviewSettings",
    "SafeExitSettings",
    "Settings",
    "SpawnSettings",
    "SpokeSettings",
    "WatchSettings",
    "digest_sessions",
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
    RESOLVER: "resolver",
}
_MAX_TOML = 10_000
"""Maximum characters: Python's parser is quadratic in the dots of a key and takes a minute for 100,000."""
_PREFIX = "COORDINATOR_"
_AGENT_VARIABLES = frozenset(
    _PREFIX + name
    for name in "TASK_ID TASK_FILE BRANCH WORKTREE ROLE ATTEMPT TURN SESSION TARGET SLOT DATA_DIR".split()  # noqa: SIM905
)
"""Variables that describe a session or the data directory. They never change a setting, not even `target`."""


class EnvironmentSettings(Section):
    """Additional environment variables to pass to each kind of command; PREFECT_* is never passed on."""

    setup: tuple[Variable, ...] = Field(default=(), description="Names or globs of variables for `setup`.")
    agent: tuple[Variable, ...] = Field(
        default=(), description="Names or globs of variables for the agent, e.g. ANTHROPIC_API_KEY."
    )
    verify: tuple[Variable, ...] = Field(default=(), description="Names or globs of variables for `verify`.")


class Settings(Section):
    """The settings in `coordinator.yaml`; every key is optional."""

    target: str = Field(
        default="", description="The branch that work lands on; defaults to the branch that is checked out."
    )
    tasks_dir: str = Field(
        default="", description="The directory of the task files; defaults to the one in `.taskgraph.toml`, or `tasks`."
    )
    max_sessions: Count = Field(default=4, ge=1, le=256, description="How many agents run at the same time.")
    agent: AgentSettings = Field(default_factory=AgentSettings, description="How sessions are run.")
    roles: Mapping[str, Role] = Field(
        default_factory=dict[str, str],
        description="The agent's role for each level, where it differs from the default.",
    )
    branch_prefix: str = Field(default="feat/", description="The prefix of branch names, before the task's id.")
    setup: tuple[Line, ...] = Field(default=(), description="Shell lines that prepare a new worktree.")
    setup_key: tuple[RelativePath, ...] = Field(
        default=(), description="Files that `setup` depends on, e.g. lock files."
    )
    keep: tuple[RelativePath, ...] = Field(
        default=(), description="Paths that a reused worktree keeps while the `setup_key` files are unchanged."
    )
    copy_paths: tuple[RelativePath, ...] = Field(
        default=(), alias="copy", description="Files outside git to copy into each worktree, e.g. `.env`."
    )
    verify: tuple[Line, ...] = Field(default=(), description="Shell lines that must pass on a merge before it lands.")
    protected_paths: tuple[RelativePath, ...] = Field(
        default=(),
        description="Paths that a branch may change only with your approval; coordinator.yaml always is one of them.",
    )
    wrapper: tuple[Word, ...] = Field(
        default=(), description="A program and arguments to put in front of setup, agent and verify, e.g. a sandbox."
    )
    env: EnvironmentSettings = Field(default_factory=EnvironmentSettings, description="Variables to pass on.")
    review: ReviewSettings = Field(default_factory=ReviewSettings, description="When branches are reviewed.")
    safe_exit: SafeExitSettings = Field(
        default_factory=SafeExitSettings, description="What happens when a node blocks."
    )
    watch: WatchSettings = Field(default_factory=WatchSettings, description="Time limits, in seconds.")
    budget: BudgetSettings = Field(default_factory=BudgetSettings, description="What agents may spend.")
    prompts: Mapping[PromptName, RelativePath] = Field(
        default_factory=dict[Any, str],
        description="Files in this repository that replace the coordinator's own prompts.",
    )
    kept_days: Count = Field(
        default=30,
        ge=0,
        le=36_500,
        description="Days after which a run deletes kept states and the logs of finished nodes; 0 keeps them.",
    )
    retry: RetrySettings = Field(default_factory=RetrySettings, description="Attempts, and waits between them.")
    land: LandSettings = Field(default_factory=LandSettings, description="Where and how finished work lands.")
    server_linger_seconds: Seconds = Field(
        default=0,
        ge=0,
        le=86_400,
        description="How long Prefect's server stays after a run, so that the next one begins sooner.",
    )
    notify: NotifySettings = Field(default_factory=NotifySettings, description="Whom a run tells about itself.")
    spokes: SpokeSettings = Field(default_factory=SpokeSettings, description="Sessions on other machines.")
    report: ReportSettings = Field(default_factory=ReportSettings, description="Where after-action reports go.")
    spawn: SpawnSettings = Field(default_factory=SpawnSettings, description="Tasks that sessions spawn.")

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
                        f'agent passes "{show(shown)}" on to the agent\'s shell, but agent.keys keeps "{show(key)}" '
                        "from it; remove one of them"
                    )
        return env

    @field_validator("budget")
    @classmethod
    def _check_budget_can_be_kept(cls, budget: BudgetSettings, info: ValidationInfo) -> BudgetSettings:
        agent = info.data.get("agent")
        preset = agent.preset if isinstance(agent, AgentSettings) else ""
        if _get_backend(info) != "command" or not (unknown := budget.find_unknown_to_programs(preset)):
            return budget
        if preset:
            said = f"but {preset} does not report cost; limit tokens, turns or seconds instead"
        else:
            said = "but agent.backend command does not report tokens or cost; limit turns or seconds instead"
        raise ValueError(f"sets {', '.join(unknown)}, {said}")

    @field_validator("branch_prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        if not prefix:
            raise ValueError("is empty, so a task could take the name of another branch; write one such as `feat/`")
        check_branch(f"{prefix}x")
        return prefix

    def role_for(self, level: str | None) -> str:
        """The agent's role for a node of `level`: the one in `roles`, else the default."""
        name = (level or "implementation").casefold()
        chosen = {key.casefold(): role for key, role in self.roles.items()}
        return chosen.get(name) or ROLES.get(name, DEFAULT_ROLE)

    def role_of(self, task: Task) -> str:
        """The role of the agent for `task`: the one that its file names, else that of its level."""
        return task.role or self.role_for(task.level)

    def model_for(self, task: Task, role: str) -> str:
        """`provider/model` for a session of `role` for `task`; "" for the role's own model, or the default.

        The model that a task file names applies to the task's own role only; its reviewer uses the reviewer's model.
        """
        is_worker = role == self.role_of(task)
        return (task.model if is_worker else "") or self.agent.models.get(role, "")

    def explain_review(self, task: Task, facts: WorkFacts = NO_FACTS) -> str:
        """Why the branch of `task` is reviewed before it is merged, "" if it is not; `facts` are what is known of it.

        They count only if the agent is known to have a reviewer: an opencode server that the user started may lack the
        role, unless `roles` names another.
        """
        return explain_review(task, self.review, facts if self._has_reviewer else NO_FACTS)

    def may_be_reviewed(self, task: Task) -> bool:
        """Whether the branch of `task` may need a review, as far as that is known before the work."""
        return may_be_reviewed(task, self.review) if self._has_reviewer else bool(self.explain_review(task))

    @property
    def _has_reviewer(self) -> bool:
        return not self.agent.url or REVIEW_LEVEL in self.roles

    @property
    def wants_resolver(self) -> bool:
        """Whether a resolver is asked about blockers.

        With `auto`, neither programs are, which may not know the role, nor an opencode server that the user started,
        unless `roles` says which of its agents to take.
        """
        if self.safe_exit.resolver != "auto":
            return self.safe_exit.resolver == "always"
        return self.agent.backend == "opencode" and (not self.agent.url or RESOLVER in self.roles)


def _get_backend(info: ValidationInfo) -> str:
    """The backend, or "" if `agent` is invalid, which is reported separately."""
    agent = info.data.get("agent")
    return agent.backend if isinstance(agent, AgentSettings) else ""


def read_settings(text: str, path: str, environment: Mapping[str, str]) -> Settings:
    """The settings in `text`, the content of `path` ("" for none), overridden by `COORDINATOR_*` variables.

    `COORDINATOR_RETRY__ATTEMPTS=2` sets `retry.attempts`; lists are written as YAML. Variables that match no key, and
    those that agents are given, are ignored. Raises InputError with every fault: its file and line, or its variable.
    """
    return read_model(Settings, text, path, environment, _PREFIX, _AGENT_VARIABLES)


def settings_schema() -> dict[str, Any]:
    """The JSON schema of `coordinator.yaml`."""
    schema = Settings.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "coordinator.yaml"}


def digest_verify(settings: Settings) -> str:
    """The value of the trailer `Verified:`: 16 hex digits that identify how a merge is verified, or `none`."""
    if not settings.verify:
        return "none"
    parts = {"setup": settings.setup, "verify": settings.verify, "wrapper": settings.wrapper}
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def digest_sessions(settings: Settings) -> str:
    """16 hex digits that identify how sessions are prepared and run, which two machines must agree on."""
    names = ("agent", "roles", "setup", "setup_key", "keep", "copy_paths", "wrapper", "env", "watch", "prompts")
    parts = settings.model_dump(mode="json", include=set(names))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def read_taskgraph_tasks_dir(text: str, path: str) -> str | None:
    """`[project] tasks_dir` of a `.taskgraph.toml`, or None if it is not set; raises InputError."""
    if len(text) > _MAX_TOML:
        raise InputError([Fault(path, 0, f"has {len(text)} characters; the limit is {_MAX_TOML}, so shorten it")])
    try:
        document: Mapping[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not TOMLDecodeError: a number that is too long raises a plain ValueError.
        line = re.search(r"at line (\d+)", str(error))
        message = f"is not valid TOML: {show(str(error), MAX_MESSAGE // 2)}; fix it"
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


def starter_settings(
    verify: Sequence[str],
    command: Sequence[str] = (),
    *,
    has_opencode: bool = False,
    preset: str = "",
    keys: Sequence[str] = (),
) -> str:
    """A short `coordinator.yaml` to start from; `verify` are shell lines, `command` is the agent's argument list.

    Without a command the agent is opencode if it is installed, else that of `preset`, which is given the variables
    `keys`; otherwise the user has to fill it in.
    """
    agent = _start_preset(preset, keys) if preset else _start_command(command)
    lines = "".join(f"  - {quote(line)}\n" for line in verify)
    return f"""\
# How coordinator runs the tasks of this repository. Every key is optional.

# How many agents run at the same time.
max_sessions: 4

{_OPENCODE_STARTER if has_opencode and not command else agent}
# Shell lines that prepare a new worktree.
# setup:
#   - npm ci

# Shell lines that must pass on every merge before it lands.
{f"verify:{chr(10)}{lines}" if lines else f"# verify:{chr(10)}#   - make test{chr(10)}"}"""


_OPENCODE_STARTER = """\
# The agent: opencode, with the providers that you are logged in to (`opencode auth login`).
agent:
  backend: opencode
  # As `opencode models` lists it; defaults to the model in your opencode configuration.
  # model: anthropic/claude-sonnet-4-5
"""


def _start_preset(preset: str, keys: Sequence[str]) -> str:
    listed = f"\nenv:\n  # Its shells see these variables.\n  agent: [{', '.join(keys)}]\n" if keys else ""
    return f"""\
# The agent: a program that coordinator knows, as you are logged in to it.
agent:
  preset: {preset}
  # The name of a model as the program takes it; defaults to the program's own choice.
  # model: name
{listed}"""


def _start_command(command: Sequence[str]) -> str:
    given = f"[{', '.join(map(quote, command))}]" if command else '[my-agent, --role, "{role}", "{prompt_file}"]'
    mark = "" if command else "# "
    text = f"""\
# The agent: a program and its arguments, run without a shell in a worktree, with the prompt on standard input.
# {{role}}, {{prompt_file}} and {{session}} are replaced.
{mark}agent:
{mark}  command: {given}
"""
    if command:
        return text
    return f"""{text}
# Or use opencode, once it is installed:
# agent:
#   backend: opencode
#   model: anthropic/claude-sonnet-4-5
"""
