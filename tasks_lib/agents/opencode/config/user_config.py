"""Decides what becomes of a person's own configuration of opencode beside that of a run: the one order of the two.

Refusals add up: what the person refuses (`deny`, `ask`, a tool that is off, an agent, a provider, a server of tools
that is disabled) stays refused, whatever coordinator.yaml and the roles say; and the other way round. Of everything
else the repository's word stands above the person's, key by key. docs/opencode.md lists the places.

How they configured it is asked of opencode itself. Our part inside it writes down what it finds before the rules of a
run are laid over it (`SEEN`), in opencode's own order, which decides; no file of theirs is read here.
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
"""Variables that hold, or name, a part of a person's own configuration, which may refuse something."""
CLOSED: Rules = (Rule("**", "*", "deny"),)
"""What the files of a run say of permissions: nothing is allowed before the plugin has put the real rules over it.

The name means the same as `*`, and is one that nobody else uses, so it hides no rule of theirs when they are merged.
"""


@dataclass(frozen=True, slots=True)
class Theirs:
    """What a person's own configuration says: `permission` for all agents, `agents` by name, and those `disabled`."""

    permission: Rules = ()
    agents: Mapping[str, Rules] = field(default_factory=dict[str, Rules])
    disabled: frozenset[str] = frozenset()

    def rules_of(self, agent: str) -> Rules:
        """What they say of `agent`, in opencode's order: its own rules after the general ones."""
        return (*self.permission, *self.agents.get(agent, ()))


def find_sources(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Of `environ` what belongs to the person's own configuration; a path in it is relative to `directory`.

    A directory of configuration (`OPENCODE_CONFIG_DIR`) gives way to that of a run, so its main file is named instead.
    """
    found = {name: environ[name] for name in USER_CONFIG_VARIABLES if environ.get(name)}
    place = environ.get("OPENCODE_CONFIG_DIR")
    if place and "OPENCODE_CONFIG" not in found:
        files = [directory / place / name for name in ("opencode.json", "opencode.jsonc")]
        found |= dict.fromkeys(["OPENCODE_CONFIG"], next((str(path) for path in files if path.is_file()), ""))
    if found.get("OPENCODE_CONFIG"):
        found["OPENCODE_CONFIG"] = str(directory / found["OPENCODE_CONFIG"])
    return {name: value for name, value in found.items() if value}


def read_user_config(seen: Mapping[str, Any]) -> Theirs:
    """What the plugin saw: `permission`, and `agents` with `permission` and `disable` of each."""
    agents = {name: as_object(agent) for name, agent in as_object(seen.get("agents")).items()}
    return Theirs(
        _read_rules(seen.get("permission")),
        {name: rules for name, agent in agents.items() if (rules := _read_rules(agent.get("permission")))},
        frozenset(name for name, agent in agents.items() if agent.get("disable") is True),
    )


def _read_rules(section: Any) -> Rules:
    given = {"*": section} if isinstance(section, str) else as_object(section)
    words = {name: value for name, value in given.items() if isinstance(value, str)}
    patterns = {name: as_object(value) for name, value in given.items()}
    # In their own order, which decides; what is of another shape says nothing.
    said: Section = {name: words.get(name, patterns[name]) for name in given}
    return tuple(one for rule in flatten(said) if rule.permission != CLOSED[0].permission for one in _keep_place(rule))


def load_user_config(configuration: Path) -> Theirs:
    """What the plugin wrote into the directory `configuration`; the file is removed. Raises AgentError."""
    path = configuration / SEEN
    try:
        return read_user_config(as_object(json.loads(path.read_text("utf-8"))))
    except (OSError, ValueError) as error:
        raise AgentError(f"opencode did not say what your own configuration allows ({error}); run again") from error
    finally:
        path.unlink(missing_ok=True)


def _keep_place(rule: Rule) -> Iterable[Rule]:
    """`rule` so that JavaScript leaves it where it stands: it puts whole numbers before all other keys."""
    words = [f"{word}*" if word.isdigit() or word == "__proto__" else word for word in rule[:2]]
    if words == list(rule[:2]):
        return (rule,)
    return () if rule.allows else (Rule(words[0], words[1], rule.action),)


def combine_general(policy: Rules, theirs: Theirs) -> Rules:
    """What holds for every agent, those of theirs and of opencode's own among them."""
    # Allowing everything is what opencode does anyway; said aloud it would undo what it denies its own agents.
    said = theirs.permission
    while said and said[0].allows and said[0].permission == "*":
        said = said[1:]
    return narrow(policy, said)


def combine_agent(policy: Rules, role: Rules, theirs: Rules) -> Rules:
    """What holds for one agent: `role` is what the repository says of it, `theirs` as `Theirs.rules_of` has it."""
    return narrow(policy, narrow(theirs, role))
