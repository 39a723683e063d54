"""The settings of agents: which backend runs their sessions, with which models and keys, and their budgets."""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tasks_lib.model import MAX_NAME_CHARS
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
    check_model,
    check_url,
)
from tasks_lib.suggestions import suggest

PRESETS = ("claude", "codex")
"""The programs that are known, as `agent.preset` names them."""
PRESETS_WITH_COST = ("claude",)
"""Those that report what a turn costs; all of them report tokens."""
PLACEHOLDERS = ("role", "prompt_file", "answer_file", "session")
"""The placeholders that `agent.command` may contain in braces."""

_PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z_]+)\}")
_PROGRAMS_MODEL = re.compile(r"[A-Za-z0-9][\w./:@\[\]+-]*", re.ASCII)
_UNITS = ("tokens", "cost", "turns", "seconds")


def find_placeholders(words: tuple[str, ...]) -> tuple[str, ...]:
    """The placeholder-like names in braces in `words`, sorted; `${name}` belongs to the shell and is left out."""
    return tuple(sorted({name for word in words for name in _PLACEHOLDER.findall(word)}))


class AgentSettings(Section):
    """How sessions of a coding agent are run."""

    # The backend comes first, because the other keys are validated against it.
    backend: Literal["opencode", "command"] = Field(
        default="command",
        description="What runs a session: an opencode server, or a command that is run once per turn.",
    )
    preset: str = Field(
        default="",
        description="For `command`: a program that is known, instead of a command: `claude` or `codex`.",
    )
    command: tuple[Word, ...] = Field(
        default=(),
        description="For `command`: the program and its arguments, run without a shell in the worktree once per turn, "
        "with the prompt on standard input; {role}, {prompt_file}, {answer_file} and {session} are replaced. For "
        "`opencode`: how to start opencode, if not as `opencode`.",
    )
    model: Word = Field(
        default="",
        description="The default model, for roles without one: `provider/model` for opencode, the program's own name "
        "for a preset.",
    )
    models: Mapping[Role, Model] = Field(
        default_factory=dict[str, str],
        description="The model for each role as `provider/model`; a preset leaves `provider` out.",
    )
    keys: tuple[Variable, ...] = Field(
        default=(),
        description="Names or globs of environment variables that the opencode server needs but the agent's shell must "
        "not see, e.g. ANTHROPIC_API_KEY.",
    )
    config: Mapping[ConfigKey, Any] = Field(
        default_factory=dict[str, Any],
        description="Additional opencode configuration, as in `opencode.json`: `provider`, `mcp` and so on.",
    )
    permission: Mapping[str, PermissionRule] = Field(
        default_factory=dict[str, Any],
        description="What opencode's tools may do, as in `opencode.json`; roles can restrict it but never extend it.",
    )
    url: str = Field(
        default="",
        description="Address of an opencode server that is already running and is never stopped; its password is read "
        "from OPENCODE_SERVER_PASSWORD.",
    )

    @field_validator("preset")
    @classmethod
    def _check_preset(cls, preset: str, info: ValidationInfo) -> str:
        if preset and preset not in PRESETS:
            known = ", ".join(PRESETS)
            raise ValueError(f'is "{show(preset)}"; the presets are {known}{suggest(preset, PRESETS)}')
        if preset and info.data.get("backend") == "opencode":
            raise ValueError("is for programs, but agent.backend is opencode; remove one of them")
        return preset

    @field_validator("command")
    @classmethod
    def _check_command(cls, command: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if command and info.data.get("preset"):
            raise ValueError("would replace the command of agent.preset; remove one of them")
        if command and not command[0].strip():
            raise ValueError("starts with an empty word; the first word is the program to run")
        check_not_filled_in(command, info.data.get("backend"))
        unknown = set(find_placeholders(command)) - set(PLACEHOLDERS)
        if unknown:
            names = _list_names(sorted(unknown))
            raise ValueError(f"contains {names}; the placeholders are {_list_names(PLACEHOLDERS)}")
        return command

    @field_validator("model")
    @classmethod
    def _check_model(cls, model: str, info: ValidationInfo) -> str:
        if not info.data.get("preset"):
            return check_model(model)
        if model and (not _PROGRAMS_MODEL.fullmatch(model) or len(model) > MAX_NAME_CHARS):
            raise ValueError(f'is "{show(model)}"; write the name of a model as the program takes it')
        return model

    @field_validator("model", "models", "keys", "config", "permission", "url")
    @classmethod
    def _check_is_for_opencode(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("preset") and info.field_name in ("model", "models"):
            return value
        if value and info.data.get("backend") == "command":
            raise ValueError(
                "is for opencode only, but agent.backend is command; set `backend: opencode`, or remove this key"
            )
        return value

    @property
    def answers_in_output(self) -> bool:
        """Whether a program's answer is all that it prints: it does not say what of that is meant as an answer."""
        return self.backend == "command" and not self.preset and "answer_file" not in find_placeholders(self.command)

    @property
    def program(self) -> tuple[str, ...]:
        """The words that start the agent, as far as they are configured: the command, or the preset's program."""
        return self.command or ((self.preset,) if self.preset else ())

    @field_validator("config")
    @classmethod
    def _check_config(cls, config: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            json.dumps(config, allow_nan=False)
        except ValueError as error:
            raise ValueError("contains a number that is too large for JSON; change it, or quote it") from error
        return config

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str, info: ValidationInfo) -> str:
        idle = [f"agent.{name}" for name in ("command", "keys", "config", "permission") if info.data.get(name)]
        if url and idle:
            raise ValueError(
                f"names a server that is already running, so {' and '.join(idle)} would have no effect; remove one or "
                "the other"
            )
        return check_url(url)


def check_not_filled_in(words: tuple[str, ...], backend: object) -> None:
    """Raise ValueError if `words` start an opencode server but contain placeholders, which belong to one session."""
    if backend == "opencode" and (found := find_placeholders(words)):
        raise ValueError(
            f"contains {_list_names(found)}; one opencode server is started for all sessions, so remove it"
        )


def _list_names(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{{{show(name)}}}" for name in names)


class BudgetLimits(Section):
    """Spending limits; 0 means no limit. Sessions over budget are stopped, and their work is kept."""

    tokens: Count = Field(
        default=0, ge=0, description="Input, output and reasoning tokens; cached tokens are not counted."
    )
    cost: Dollars = Field(
        default=0, ge=0, description="US dollars, as opencode or Claude Code computes them from the model's prices."
    )
    turns: Count = Field(
        default=0, ge=0, description="Prompts, including reminders and work that is returned to its session."
    )
    seconds: Seconds = Field(default=0, ge=0, description="Seconds in which sessions run; waiting is not counted.")


class BudgetSettings(Section):
    """What agents may spend, enforced while they run."""

    attempt: BudgetLimits = Field(default_factory=BudgetLimits, description="For one attempt at a node.")
    node: BudgetLimits = Field(default_factory=BudgetLimits, description="For all attempts at a node together.")
    run: BudgetLimits = Field(default_factory=BudgetLimits, description="For all nodes of a run together.")

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
            raise ValueError(f"{', '.join(wrong)}; the wider budget would always run out first, so raise it")
        return self

    def find_unknown_to_programs(self, preset: str = "") -> tuple[str, ...]:
        """The limits set here that the backend `command` cannot enforce, because its program does not report usage."""
        limits = {"attempt": self.attempt, "node": self.node, "run": self.run}
        units = ("tokens", "cost") if not preset else () if preset in PRESETS_WITH_COST else ("cost",)
        return tuple(f"{scope}.{unit}" for scope, limit in limits.items() for unit in units if getattr(limit, unit))
