"""Says what can be set in `coordinator.yaml`, with its defaults and limits, and what follows from it."""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks_lib.errors import Fault, InputError
from tasks_lib.model import REVIEW_LEVEL, Risk, Scope, Task
from tasks_lib.naming import find_id_fault
from tasks_lib.settings_yaml import read_model
from tasks_lib.yamlnodes import quote

PLACEHOLDERS = ("role", "prompt_file", "session")
"""What `agent.command` may hold between braces."""

DEFAULT_ROLE = "implementation-specialist"
ROLES: Mapping[str, str] = {
    REVIEW_LEVEL: "code-reviewer",
    "research": "poc-specialist",
    "architecture": "architect",
    "decomposition": "decomposer",
    "planning": "decomposer",
}
_PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z_]+)\}")
_VARIABLE = re.compile(r"[A-Za-z0-9_*?!\[\]^-]+")
_GLOB_TOKEN = re.compile(r"\*+|\[!?\]?[^\]]*\]|.", re.DOTALL)
_ROLE = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")
_PRIVATE = "PREFECT_"
_PREFIX = "COORDINATOR_"
_AGENT_VARIABLES = frozenset(
    _PREFIX + name
    for name in "TASK_ID TASK_FILE BRANCH WORKTREE ROLE ATTEMPT TURN SESSION TARGET SLOT DATA_DIR".split()  # noqa: SIM905
)
"""These say where a session is, or where data is kept; they never set anything here, `target` among them."""


def _check_line(line: str) -> str:
    if not line.strip() or "\0" in line:
        raise ValueError(
            "holds an empty line; take it out" if "\0" not in line else "holds a NUL character; take it out"
        )
    return line


def _check_word(word: str) -> str:
    if "\0" in word:
        raise ValueError("holds a NUL character; take it out")
    return word


def _check_path(path: object) -> str:
    """`path` in its plain form (`a/b`), refused unless it stays below the directory that it is relative to."""
    if not isinstance(path, str):
        raise ValueError('is not text; write it in quotes, such as "tasks"')  # noqa: TRY004 - pydantic takes ValueError.
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith(("/", "~")):
        raise ValueError(f'is "{path}", which is not relative; write it from the top of the repository')
    if ".." in parts:
        raise ValueError(f'is "{path}", which holds `..`; name a path inside the repository')
    if not parts or ".git" in parts:
        raise ValueError(f'is "{path}", which is no file or directory of a worktree; name one')
    if not path.isprintable() or "\\" in path:
        raise ValueError(f"is {path!r}, which holds a backslash or an unprintable character; write the path with `/`")
    return "/".join(parts)


def _check_branch(name: str) -> str:
    if name.startswith("refs/"):
        raise ValueError(f'is "{name}", a full ref; write the name of the branch alone')
    if name and (fault := find_id_fault(name)):
        raise ValueError(f'is "{name}", which {fault}; write a name that git takes for a branch')
    return name


def _check_role(role: str) -> str:
    if not _ROLE.fullmatch(role):
        raise ValueError(f'is "{role}"; write the name of a role, such as {DEFAULT_ROLE}')
    return role


def _check_variable(pattern: str) -> str:
    if not _VARIABLE.fullmatch(pattern):
        raise ValueError(f'is "{pattern}"; write the name of a variable or a glob such as `NPM_*`, without a value')
    if _can_start_with(pattern, _PRIVATE):
        raise ValueError(
            f'is "{pattern}", which can match {_PRIVATE}*; no command may see those, so name others exactly'
        )
    return pattern


def _can_start_with(pattern: str, prefix: str) -> bool:
    """Whether the glob `pattern` matches some name that starts with `prefix`."""
    tokens = _GLOB_TOKEN.findall(pattern)
    places = {0}  # How many tokens are used up, in every way of matching the prefix so far.
    for character in prefix:
        for place in sorted(places):
            if place < len(tokens) and tokens[place].startswith("*"):
                places.add(place + 1)
        places = {
            place if tokens[place].startswith("*") else place + 1
            for place in places
            if place < len(tokens) and _matches(tokens[place], character)
        }
    return bool(places)


def _matches(token: str, character: str) -> bool:
    if token[0] in "*?" or (token[0] == "[" and len(token) > 1):
        # What a class holds is not looked at: refusing a few names too many is the safe side.
        return True
    return token == character


def _check_model(model: str) -> str:
    provider, slash, name = model.partition("/")
    if (model and not (provider and slash and name)) or not model.isprintable() or " " in model:
        raise ValueError(f'is "{model}"; write it as provider/model, the way `opencode models` lists it')
    return model


def _check_url(url: str) -> str:
    if url and not re.fullmatch(r"https?://[^\s/@?#]+/?", url):
        raise ValueError(f'is "{url}"; write an address such as http://127.0.0.1:4096, without a password in it')
    return url.rstrip("/")


Line = Annotated[str, AfterValidator(_check_line)]
Word = Annotated[str, AfterValidator(_check_word)]
RelativePath = Annotated[str, AfterValidator(_check_path)]
Role = Annotated[str, AfterValidator(_check_role)]
Variable = Annotated[str, AfterValidator(_check_variable)]
Model = Annotated[str, AfterValidator(_check_model)]
Permission = Literal["allow", "ask", "deny"]
Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True)]


PromptName = Literal["task", "review", "conflict", "red", "changes"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)


class AgentSettings(_Section):
    """How a session of a coding agent is run."""

    backend: Literal["opencode", "command"] = Field(
        default="command",
        description="What runs a session: opencode's own server, or a program that is run once a turn.",
    )
    command: tuple[Word, ...] = Field(
        default=(),
        description="For `command`: program and arguments, run without a shell in the worktree once a turn, the prompt "
        "on standard input; {role}, {prompt_file} and {session} are filled in. For `opencode`: how opencode is "
        "started, if not as `opencode`.",
    )
    model: Model = Field(default="", description="`provider/model` for every role that names none; opencode only.")
    models: Mapping[str, Model] = Field(
        default_factory=dict[str, str], description="`provider/model` for a role; opencode only."
    )
    keys: tuple[Variable, ...] = Field(
        default=(),
        description="Names or globs of variables that opencode's server needs and the agent's shell must not see, such "
        "as ANTHROPIC_API_KEY.",
    )
    config: Mapping[str, Any] = Field(
        default_factory=dict[str, Any],
        description="Further configuration for opencode, as in its own `opencode.json`: `provider`, `mcp` and so on.",
    )
    permission: Mapping[str, Permission | Mapping[str, Permission]] = Field(
        default_factory=dict[str, Any],
        description="What opencode's tools may do, as in its own configuration; roles can narrow it, never widen it.",
    )
    url: str = Field(
        default="",
        description="Address of an opencode server that runs already and is left running; its password is in "
        "OPENCODE_SERVER_PASSWORD.",
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        return _check_url(url)

    @field_validator("command")
    @classmethod
    def _check_command(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if command and not command[0].strip():
            raise ValueError("starts with an empty word; the first is the program to run")
        unknown = {name for word in command for name in _PLACEHOLDER.findall(word)} - set(PLACEHOLDERS)
        if unknown:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ValueError(
                f"holds {', '.join(f'{{{name}}}' for name in sorted(unknown))}; what is filled in is {known}"
            )
        return command


class EnvironmentSettings(_Section):
    """Which variables of this process a command sees besides the usual ones; PREFECT_* is never passed on."""

    setup: tuple[Variable, ...] = Field(default=(), description="Names or globs for the lines of `setup`.")
    agent: tuple[Variable, ...] = Field(
        default=(), description="Names or globs for the agent, such as ANTHROPIC_API_KEY."
    )
    verify: tuple[Variable, ...] = Field(default=(), description="Names or globs for the lines of `verify`.")


class ReviewSettings(_Section):
    """When a branch is read by a reviewer before it is merged."""

    when: Literal["auto", "always", "never"] = Field(
        default="auto", description="`auto`: nodes of risk high or critical, or scope broad or system."
    )
    max_rounds: Count = Field(
        default=2, ge=1, le=10, description="How often changes that were requested go back to the author."
    )


class WatchSettings(_Section):
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
    setup_seconds: Seconds = Field(default=1800, gt=0, description="All lines of `setup` together.")
    verify_seconds: Seconds = Field(default=3600, gt=0, description="All lines of `verify` together.")
    stop_seconds: Seconds = Field(default=10, gt=0, description="From asking a process to end until it is killed.")
    nudges: Count = Field(
        default=2, ge=0, le=2, description="How often a turn that changed nothing is followed by a reminder."
    )


class BudgetLimits(_Section):
    """What may be spent; 0 is no limit. What is over its budget is ended, and its work kept."""

    tokens: Count = Field(
        default=0, ge=0, description="Tokens of input, output and reasoning; cached ones do not count."
    )
    cost: Seconds = Field(default=0, ge=0, description="US dollars, as opencode reckons them from the model's prices.")
    turns: Count = Field(default=0, ge=0, description="Prompts, reminders and work that was given back among them.")
    seconds: Seconds = Field(default=0, ge=0, description="Seconds in which sessions work; waiting is not counted.")


class BudgetSettings(_Section):
    """What agents may spend, enforced while they work."""

    attempt: BudgetLimits = Field(default_factory=BudgetLimits, description="One attempt at a node.")
    node: BudgetLimits = Field(default_factory=BudgetLimits, description="All attempts at a node together.")
    run: BudgetLimits = Field(default_factory=BudgetLimits, description="All nodes of a run together.")


class RetrySettings(_Section):
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


class LandSettings(_Section):
    """Where finished work goes."""

    mode: Literal["local"] = Field(
        default="local", description="Work lands on the local branch. This version has `local` only."
    )
    give_backs: Count = Field(
        default=3, ge=0, le=10, description="How often a conflict or a red verify goes back to the author."
    )


class Settings(_Section):
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
    retry: RetrySettings = Field(default_factory=RetrySettings, description="Attempts and waits.")
    land: LandSettings = Field(default_factory=LandSettings, description="Where work goes.")

    @field_validator("target")
    @classmethod
    def _check_target(cls, target: str) -> str:
        return _check_branch(target)

    @field_validator("tasks_dir")
    @classmethod
    def _check_tasks_dir(cls, path: str) -> str:
        return _check_path(path) if path else path

    @field_validator("branch_prefix")
    @classmethod
    def _check_prefix(cls, prefix: str) -> str:
        if not prefix:
            raise ValueError("is empty, and a task could take the name of another branch; write one such as `feat/`")
        _check_branch(f"{prefix}x")
        return prefix

    def role_for(self, level: str | None) -> str:
        """The agent's role for a node of `level`: as `roles` says, else the usual one."""
        name = (level or "implementation").casefold()
        chosen = {key.casefold(): role for key, role in self.roles.items()}
        return chosen.get(name) or ROLES.get(name, DEFAULT_ROLE)

    def wants_review(self, task: Task) -> bool:
        """Whether the branch of `task` is reviewed before it is merged; a review node is not reviewed in its turn."""
        if task.is_review or self.review.when == "never":
            return False
        is_weighty = task.risk in (Risk.HIGH, Risk.CRITICAL) or task.scope in (Scope.BROAD, Scope.SYSTEM)
        return self.review.when == "always" or is_weighty


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
    try:
        document: Mapping[str, Any] = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line = re.search(r"at line (\d+)", str(error))
        raise InputError([Fault(path, int(line[1]) if line else 0, f"is not valid TOML: {error}; mend it")]) from error
    project: Any = document.get("project", {})
    if not isinstance(project, Mapping):
        raise InputError([Fault(path, _find_line(text, "project"), "project is not a table; write `[project]`")])
    value: Any = cast("Mapping[str, Any]", project).get("tasks_dir")
    try:
        return _check_path(value) if value else None
    except ValueError as error:
        raise InputError([Fault(path, _find_line(text, "tasks_dir"), f"tasks_dir {error}")]) from error


def _find_line(text: str, key: str) -> int:
    found = re.search(rf"^[ \t]*\[?[ \t]*[\"']?{key}\b", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 0


def starter_settings(verify: Sequence[str], command: Sequence[str] = ()) -> str:
    """A short `coordinator.yaml` to begin with; `verify` are shell lines, `command` an agent's argument list."""
    agent = f"[{', '.join(map(quote, command))}]" if command else '[my-agent, --role, "{role}", "{prompt_file}"]'
    mark = "" if command else "# "
    lines = "".join(f"  - {quote(line)}\n" for line in verify)
    return f"""\
# How tasks are worked on in this repository. Every key may be left out.

# How many agents work at the same time.
max_sessions: 4

# The agent: program and arguments, run without a shell in a worktree, the prompt on standard input.
# {{role}}, {{prompt_file}} and {{session}} are filled in.
{mark}agent:
{mark}  command: {agent}

# Shell lines that make a new worktree ready.
# setup:
#   - npm ci

# Shell lines that must pass on every merge before it lands.
{f"verify:{chr(10)}{lines}" if lines else f"# verify:{chr(10)}#   - make test{chr(10)}"}"""
