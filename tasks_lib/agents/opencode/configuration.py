"""Decides what stands in the directory from which opencode takes its configuration, so that nothing enters a worktree.

Two layers say what tools may do. The files do, as opencode reads them. But opencode merges them into the user's own
configuration, key by key, where an `ask` or a wider exception of theirs can survive; so the plugin puts the same once
more over the merged result.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from tasks_lib.agents.opencode.permissions import Rules, find_pattern_fault, flatten, make_policy, narrow, to_section
from tasks_lib.agents.opencode.roles import Role
from tasks_lib.agents.opencode.shells import write_private
from tasks_lib.settings import Settings

PLAN = "coordinator.json"
FIXED: Mapping[str, Any] = {"autoupdate": False, "share": "disabled", "snapshot": False}
"""What no configuration changes: versions are chosen, nothing is published, and git keeps what agents do."""
USUAL: Mapping[str, Any] = {"lsp": False, "formatter": False}
"""What `agent.config` may say otherwise: servers for languages and formatters are downloads, and change files."""

STUB: Mapping[str, str] = {
    "package-lock.json": '{"lockfileVersion":3,"packages":{"":{"dependencies":{"@opencode-ai/plugin":"*"}}}}\n',
    ".gitignore": "*\n",
}
"""Without these, and a `node_modules`, opencode installs 63 MB into each directory that it reads configuration from."""


def make_configuration(
    settings: Settings, roles: Mapping[str, Role], *, shells: str, keep: Sequence[str], scratch: Sequence[str] = ()
) -> dict[str, str]:
    """The files of the directory, path → text.

    `shells` is where the environments of shells are, `keep` names the variables that a shell may have for which there
    is none, and `scratch` are patterns of places outside the worktree that anybody may use. Secrets are never in it:
    `agent.config` names variables, as `{env:NAME}`.
    """
    policy = make_policy(settings.agent.permission, scratch)
    sections = {name: to_section(narrow(policy, role.permission)) for name, role in roles.items()}
    plan = {
        "permission": to_section(policy),
        "agents": sections,
        "shells": shells,
        "keep": list(keep),
        "always": list(MARKS),
    }
    return {
        **STUB,
        "opencode.json": _dump(_configure(settings, policy)),
        PLAN: _dump(plan),
        "plugin/coordinator.js": (files("tasks_lib.agents.opencode") / "plugin.js").read_text("utf-8"),
        **{f"agent/{name}.md": write_role(role, sections[name]) for name, role in roles.items()},
    }


SERVER_MARK = "COORDINATOR_SERVER"
"""The variable by which everything that a server has started is found, sessions' shells among it."""
MARKS = (SERVER_MARK, "COORDINATOR_REPOSITORY")


def _configure(settings: Settings, policy: Rules) -> dict[str, Any]:
    usual = dict(USUAL)
    if settings.agent.model:
        usual |= {"model": settings.agent.model, "small_model": settings.agent.model}
    return {
        "$schema": "https://opencode.ai/config.json",
        **usual,
        **settings.agent.config,
        **FIXED,
        "permission": to_section(policy),
    }


def write_role(role: Role, permission: Mapping[str, Any]) -> str:
    """A role as opencode reads it, with `permission` in place of what the role asks for.

    The front matter is JSON, which is YAML too. In these files opencode replaces no `{env:…}` and no `{file:…}`.
    """
    front = {**role.options, "permission": permission}
    if front.get("mode") != "subagent":
        front["mode"] = "all"
    return f"---\n{json.dumps(front)}\n---\n{role.text}\n"


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1) + "\n"


def check_permission(section: Mapping[str, Any]) -> list[str]:
    """What is wrong with the patterns of `agent.permission`."""
    found = [(rule.permission, find_pattern_fault(rule.permission, rule.pattern)) for rule in flatten(section)]
    return [f"coordinator.yaml: agent.permission.{name} {fault}" for name, fault in found if fault]


def write_configuration(directory: Path, content: Mapping[str, str]) -> None:
    """Write `content` into `directory`, for nobody else to read."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in ("node_modules/x", *content):
        for place in reversed(Path(path).parents):
            (directory / place).mkdir(mode=0o700, exist_ok=True)
    for path, text in content.items():
        write_private(directory / path, text)


def write_stub(directory: Path) -> None:
    """Make `directory` an opencode configuration that says nothing, and into which nothing is installed."""
    write_configuration(directory, STUB)


def list_kept(names: Iterable[str], keys: Iterable[str]) -> list[str]:
    """Of the variables of a server, those that any shell may have: no keys, and no places that are the server's."""
    hidden = set(keys)
    return sorted(name for name in {*names, *MARKS} if name not in hidden and not name.startswith(("XDG_", "OPENCODE")))
