"""Decides how a user's own opencode configuration and that of a run are combined.

Refusals add up: what the user refuses (`deny`, `ask`, a disabled tool, agent, provider or MCP server) stays refused,
whatever coordinator.yaml and the roles say, and vice versa. For everything else the repository overrides the user, key
by key. docs/opencode.md lists the places.

opencode itself reports the user's configuration. Before the rules of a run are merged over it, coordinator's plugin
writes down what it finds (`SEEN`), in opencode's own order, which decides; coordinator reads none of the user's files.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks_lib.agents.json_values import as_object
from tasks_lib.agents.opencode.config.permissions import Rule, Rules, Section, flatten, narrow
from tasks_lib.errors import AgentError

SEEN = "seen.json"
USER_CONFIG_VARIABLES = ("OPENCODE_CONFIG", "OPENCODE_CONFIG_CONTENT", "OPENCODE_PERMISSION")
"""Variables that contain, or name, a part of a user's own configuration, which may refuse something."""
CLOSED: Rules = (Rule("**", "*", "deny"),)
"""The permissions in the files of a run: nothing is allowed before the plugin replaces them with the real rules.

The name means the same as `*`, but nothing else uses it, so it hides none of the user's rules when they are merged.
"""


@dataclass(frozen=True, slots=True)
class UserConfig:
    """A user's own configuration: `permission` for all agents, `agents` by name, and those `disabled`."""

    permission: Rules = ()
    agents: Mapping[str, Rules] = field(default_factory=dict[str, Rules])
    disabled: frozenset[str] = frozenset()

    def rules_of(self, agent: str) -> Rules:
        """Return its rules for `agent`, in opencode's order: the agent's own rules after the general ones."""
        return (*self.permission, *self.agents.get(agent, ()))


def find_sources(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Return the part of `environ` that belongs to the user's own configuration; relative paths are to `directory`.

    A run replaces the configuration directory (`OPENCODE_CONFIG_DIR`), so its main file is named instead.
    """
    found = {name: environ[name] for name in USER_CONFIG_VARIABLES if environ.get(name)}
    place = environ.get("OPENCODE_CONFIG_DIR")
    if place and "OPENCODE_CONFIG" not in found:
        files = [directory / place / name for name in ("opencode.json", "opencode.jsonc")]
        found |= dict.fromkeys(["OPENCODE_CONFIG"], next((str(path) for path in files if path.is_file()), ""))
    if found.get("OPENCODE_CONFIG"):
        found["OPENCODE_CONFIG"] = str(directory / found["OPENCODE_CONFIG"])
    return {name: value for name, value in found.items() if value}


def read_user_config(seen: Mapping[str, Any]) -> UserConfig:
    """Read what the plugin saw: `permission`, and `agents` with `permission` and `disable` of each."""
    agents = {name: as_object(agent) for name, agent in as_object(seen.get("agents")).items()}
    return UserConfig(
        _read_rules(seen.get("permission")),
        {name: rules for name, agent in agents.items() if (rules := _read_rules(agent.get("permission")))},
        frozenset(name for name, agent in agents.items() if agent.get("disable") is True),
    )


def _read_rules(section: Any) -> Rules:
    given = {"*": section} if isinstance(section, str) else as_object(section)
    words = {name: value for name, value in given.items() if isinstance(value, str)}
    patterns = {name: as_object(value) for name, value in given.items()}
    # In the user's own order, which decides; values of another shape are ignored.
    said: Section = {name: words.get(name, patterns[name]) for name in given}
    return tuple(one for rule in flatten(said) if rule.permission != CLOSED[0].permission for one in _keep_place(rule))


def load_user_config(configuration: Path) -> UserConfig:
    """Return what the plugin wrote into the directory `configuration`, and remove the file. Raises AgentError."""
    path = configuration / SEEN
    try:
        return read_user_config(as_object(json.loads(path.read_text("utf-8"))))
    except (OSError, ValueError) as error:
        raise AgentError(f"opencode did not report what your own configuration allows ({error}); run again") from error
    finally:
        path.unlink(missing_ok=True)


def _keep_place(rule: Rule) -> Iterable[Rule]:
    """Rewrite `rule` so that JavaScript keeps its position: it puts integer keys before all others."""
    words = [f"{word}*" if word.isdigit() or word == "__proto__" else word for word in rule[:2]]
    if words == list(rule[:2]):
        return (rule,)
    return () if rule.allows else (Rule(words[0], words[1], rule.action),)


def combine_general(policy: Rules, user_config: UserConfig) -> Rules:
    """Return the rules for every agent, including the user's and opencode's own."""
    # opencode allows everything by default; an explicit rule would undo what it denies its own agents.
    said = user_config.permission
    while said and said[0].allows and said[0].permission == "*":
        said = said[1:]
    return narrow(policy, said)


def combine_agent(policy: Rules, role: Rules, theirs: Rules) -> Rules:
    """Return the rules for one agent: `role` is what the repository says, `theirs` is from `UserConfig.rules_of`."""
    return narrow(policy, narrow(theirs, role))
