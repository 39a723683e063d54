"""Decides what is in the directory from which opencode reads its configuration, so that no worktree is changed.

The files refuse everything, in case coordinator's plugin is not loaded. The plugin then replaces the merged result with
the rules of the run combined with the user's own, which only the plugin can see separately (`user_config.py`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from tasks_lib.agents.json_values import as_object
from tasks_lib.agents.opencode.config.instruction_paths import split_instructions
from tasks_lib.agents.opencode.config.permissions import find_pattern_fault, flatten, make_policy, to_section
from tasks_lib.agents.opencode.config.roles import Role
from tasks_lib.agents.opencode.config.shell_environments import write_private
from tasks_lib.agents.opencode.config.user_config import CLOSED, SEEN, UserConfig, combine_agent, combine_general
from tasks_lib.settings.schema import Settings

PLAN = "coordinator.json"
FIXED: Mapping[str, Any] = {"autoupdate": False, "share": "disabled", "snapshot": False}
"""Settings that no configuration overrides: versions are pinned, nothing is published, and git keeps agents' work."""
USUAL: Mapping[str, Any] = {"lsp": False, "formatter": False}
"""Defaults that `agent.config` may override: language servers and formatters are downloaded, and change files."""

NOTHING = UserConfig()
BESIDE = ("disabled_providers", "enabled_providers", "lsp", "formatter")
"""Keys of `agent.config` that are merged with the user's own instead of overriding them: they can refuse something."""
BESIDE_BELOW: Mapping[str, Sequence[str]] = {"mcp": ("enabled",), "provider": ("blacklist", "whitelist")}
"""The same, for each entry below a key."""

TOOLS: Mapping[str, Any] = {"type": "local", "command": ["coordinator", "mcp"], "timeout": 90_000}
"""The tools of `coordinator mcp`, from the launcher on the server's PATH; milliseconds, more than a call may wait."""

STUB: Mapping[str, str] = {
    "package-lock.json": '{"lockfileVersion":3,"packages":{"":{"dependencies":{"@opencode-ai/plugin":"*"}}}}\n',
    ".gitignore": "*\n",
}
"""Without these, and a `node_modules`, opencode installs 63 MB into each directory that it reads configuration from."""


def make_configuration(
    settings: Settings,
    roles: Mapping[str, Role],
    *,
    shells: str,
    keep: Sequence[str],
    scratch: Sequence[str] = (),
    user_config: UserConfig | None = NOTHING,
) -> dict[str, str]:
    """Return the files of the directory, path → text.

    `shells` is where the environments of shells are, `keep` names the variables that a shell without one may have, and
    `scratch` are patterns of places outside the worktree that every agent may use. Without `user_config` nothing is
    allowed, and the user's own configuration is written to `SEEN`. The files never contain secrets: `agent.config`
    names variables, as `{env:NAME}`.
    """
    plan = {
        "fixed": FIXED,
        "beside": take_beside(settings.agent.config)[1],
        "shells": shells,
        "keep": list(keep),
        "always": list(MARKS),
    }
    found = {"seen": SEEN} if user_config is None else _permit(settings, roles, scratch, user_config)
    return {
        **STUB,
        "opencode.json": _dump(_configure(settings)),
        PLAN: _dump({**plan, **found}),
        "plugin/coordinator.js": (files("tasks_lib.agents.opencode") / "plugin.js").read_text("utf-8"),
        **{f"agent/{name}.md": write_role(role, to_section(CLOSED)) for name, role in roles.items()},
    }


def _permit(
    settings: Settings, roles: Mapping[str, Role], scratch: Sequence[str], user_config: UserConfig
) -> dict[str, Any]:
    """Return the permissions of any agent, and those of each known agent."""
    policy = make_policy(settings.agent.permission, scratch)
    rules = {name: user_config.rules_of(name) for name in user_config.agents}
    asked = {name: role.permission for name, role in roles.items()}
    agents = {
        name: to_section(combine_agent(policy, asked.get(name, ()), rules.get(name, user_config.permission)))
        for name in [*asked, *(name for name in rules if name not in asked)]
    }
    return {"permission": to_section(combine_general(policy, user_config)), "agents": agents}


def take_beside(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split `agent.config` into what a file can contain, and the rest, which could undo a refusal by the user.

    The plugin merges the rest over the user's: opencode itself would let the later value win, and replaces lists.
    """
    plain, beside = {**config}, dict[str, Any]()
    for key in BESIDE:
        if key in plain:
            beside[key] = plain.pop(key)
    for key, words in BESIDE_BELOW.items():
        entries = as_object(plain.get(key))
        if not entries:
            continue
        split = {name: _split(entry, words) for name, entry in entries.items()}
        plain[key] = {name: entry for name, (entry, rest) in split.items() if entry or not rest}
        if taken := {name: rest for name, (_, rest) in split.items() if rest}:
            beside[key] = taken
    return plain, beside


def _split(entry: Any, words: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    if not isinstance(entry, Mapping):
        return entry, {}
    found = as_object(entry)
    return {k: v for k, v in found.items() if k not in words}, {k: found[k] for k in words if k in found}


SERVER_MARK = "COORDINATOR_SERVER"
"""The variable that marks everything that a server has started, including sessions' shells."""
MARKS = (SERVER_MARK, "COORDINATOR_REPOSITORY")


def _configure(settings: Settings) -> dict[str, Any]:
    usual = {key: value for key, value in USUAL.items() if key not in settings.agent.config}
    if settings.agent.model:
        usual |= {"model": settings.agent.model, "small_model": settings.agent.model}
    return {
        "$schema": "https://opencode.ai/config.json",
        **usual,
        **add_tools(settings, split_instructions(take_beside(settings.agent.config)[0])[1]),
        **FIXED,
        "permission": to_section(CLOSED),
    }


def add_tools(settings: Settings, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the tools with which sessions spawn tasks to opencode's `config`, if they may."""
    if not settings.spawn.enabled:
        return config
    return {**config, "mcp": {"coordinator": TOOLS, **as_object(config.get("mcp"))}}


def write_role(role: Role, permission: Mapping[str, Any]) -> str:
    """Return a role as opencode reads it, with `permission` in place of what the role asks for.

    The front matter is JSON, which is also YAML. opencode does not replace `{env:…}` or `{file:…}` in these files.
    """
    front = {**role.options, "permission": permission}
    if front.get("mode") != "subagent":
        front["mode"] = "all"
    front.setdefault("hidden", False)
    return f"---\n{json.dumps(front)}\n---\n{role.text}\n"


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1) + "\n"


def check_permission(section: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the patterns of `agent.permission`."""
    found = [(rule.permission, find_pattern_fault(rule.permission, rule.pattern)) for rule in flatten(section)]
    return [f"coordinator.yaml: agent.permission.{name} {fault}" for name, fault in found if fault]


def write_configuration(directory: Path, content: Mapping[str, str]) -> None:
    """Write `content` into `directory`, readable only by this user."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in ("node_modules/x", *content):
        for place in reversed(Path(path).parents):
            (directory / place).mkdir(mode=0o700, exist_ok=True)
    for path, text in content.items():
        write_private(directory / path, text)


def write_stub(directory: Path) -> None:
    """Make `directory` an empty opencode configuration, into which opencode installs nothing."""
    write_configuration(directory, STUB)


def list_kept(names: Iterable[str], keys: Iterable[str]) -> list[str]:
    """Return those variables of a server that any shell may have: no keys, and no directories of the server itself."""
    hidden = set(keys)
    return sorted(name for name in {*names, *MARKS} if name not in hidden and not name.startswith(("XDG_", "OPENCODE")))
