"""Says what can be set of agents: which backend runs their sessions, with which models and keys, and what they may
spend."""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tasks_lib.naming import show
from tasks_lib.settings.value_types import (
    ConfigKey,
    Count,
    Dollars,
    Model,
    PermissionRule,
    Role,
    Seconds,
    Section,
    Variable,
    Word,
    check_url,
)

PLACEHOLDERS = ("role", "prompt_file", "session")
"""What `agent.command` may hold between braces."""

_PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z_]+)\}")
_UNITS = ("tokens", "cost", "turns", "seconds")


def find_placeholders(words: tuple[str, ...]) -> tuple[str, ...]:
    """What stands between braces in `words` and could be filled in, sorted; `${name}` is a shell's own."""
    return tuple(sorted({name for word in words for name in _PLACEHOLDER.findall(word)}))


class AgentSettings(Section):
    """How a session of a coding agent is run."""

    # The backend comes first: what the others may say is checked against it.
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
    models: Mapping[Role, Model] = Field(
        default_factory=dict[str, str], description="`provider/model` for a role; opencode only."
    )
    keys: tuple[Variable, ...] = Field(
        default=(),
        description="Names or globs of variables that opencode's server needs and the agent's shell must not see, such "
        "as ANTHROPIC_API_KEY.",
    )
    config: Mapping[ConfigKey, Any] = Field(
        default_factory=dict[str, Any],
        description="Further configuration for opencode, as in its own `opencode.json`: `provider`, `mcp` and so on.",
    )
    permission: Mapping[str, PermissionRule] = Field(
        default_factory=dict[str, Any],
        description="What opencode's tools may do, as in its own configuration; roles can narrow it, never widen it.",
    )
    url: str = Field(
        default="",
        description="Address of an opencode server that runs already and is left running; its password is in "
        "OPENCODE_SERVER_PASSWORD.",
    )

    @field_validator("command")
    @classmethod
    def _check_command(cls, command: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if command and not command[0].strip():
            raise ValueError("starts with an empty word; the first is the program to run")
        check_not_filled_in(command, info.data.get("backend"))
        unknown = set(find_placeholders(command)) - set(PLACEHOLDERS)
        if unknown:
            raise ValueError(f"holds {_list_names(sorted(unknown))}; what is filled in is {_list_names(PLACEHOLDERS)}")
        return command

    @field_validator("model", "models", "keys", "config", "permission", "url")
    @classmethod
    def _check_is_for_opencode(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("backend") == "command":
            raise ValueError("is for opencode, and agent.backend is command; write `backend: opencode`, or take it out")
        return value

    @field_validator("config")
    @classmethod
    def _check_config(cls, config: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            json.dumps(config, allow_nan=False)
        except ValueError as error:
            raise ValueError("holds a number that is too large for JSON; write another, or quote it") from error
        return config

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str, info: ValidationInfo) -> str:
        idle = [f"agent.{name}" for name in ("command", "keys", "config", "permission") if info.data.get(name)]
        if url and idle:
            raise ValueError(
                f"names a server that runs already, so {' and '.join(idle)} would do nothing; take out the one or the "
                "other"
            )
        return check_url(url)


def check_not_filled_in(words: tuple[str, ...], backend: object) -> None:
    """Raise ValueError if `words` start a server of opencode, and want something filled in for a session."""
    if backend == "opencode" and (found := find_placeholders(words)):
        raise ValueError(
            f"holds {_list_names(found)}; a server of opencode is started for all sessions, so take it out"
        )


def _list_names(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{{{show(name)}}}" for name in names)


class BudgetLimits(Section):
    """What may be spent; 0 is no limit. What is over its budget is ended, and its work kept."""

    tokens: Count = Field(
        default=0, ge=0, description="Tokens of input, output and reasoning; cached ones do not count."
    )
    cost: Dollars = Field(default=0, ge=0, description="US dollars, as opencode reckons them from the model's prices.")
    turns: Count = Field(default=0, ge=0, description="Prompts, reminders and work that was given back among them.")
    seconds: Seconds = Field(default=0, ge=0, description="Seconds in which sessions work; waiting is not counted.")


class BudgetSettings(Section):
    """What agents may spend, enforced while they work."""

    attempt: BudgetLimits = Field(default_factory=BudgetLimits, description="One attempt at a node.")
    node: BudgetLimits = Field(default_factory=BudgetLimits, description="All attempts at a node together.")
    run: BudgetLimits = Field(default_factory=BudgetLimits, description="All nodes of a run together.")

    @model_validator(mode="after")
    def _check_order(self) -> "BudgetSettings":
        pairs = ((self.attempt, self.node), (self.node, self.run), (self.attempt, self.run))
        names = (("attempt", "node"), ("node", "run"), ("attempt", "run"))
        wrong = [
            f"{small}.{unit} ({getattr(narrow, unit):g}) is above {large}.{unit} ({getattr(wide, unit):g})"
            for (small, large), (narrow, wide) in zip(names, pairs, strict=True)
            for unit in _UNITS
            if getattr(narrow, unit) > getattr(wide, unit) > 0
        ]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}; the wider budget would always end first, so raise it")
        return self

    def find_unknown_to_programs(self) -> tuple[str, ...]:
        """The keys that are set and that the backend `command` cannot keep, since a program tells of neither."""
        limits = {"attempt": self.attempt, "node": self.node, "run": self.run}
        units = ("tokens", "cost")
        return tuple(f"{scope}.{unit}" for scope, limit in limits.items() for unit in units if getattr(limit, unit))
