"""Decides which roles exist, their instructions and permissions; a repository's roles override the shipped ones."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tasks_lib.agents.opencode.config.permissions import Rule, Rules, find_pattern_fault
from tasks_lib.errors import Fault, InputError
from tasks_lib.model import is_model_name
from tasks_lib.suggestions import suggest
from tasks_lib.taskfile.frontmatter import find_block
from tasks_lib.yaml_nodes import Node, Scalar, Table, read_yaml, to_value

if TYPE_CHECKING:  # It imports asyncio, which commands that only read roles do not need.
    from tasks_lib.agents.backend import Need

PLACES = (".opencode/agents/", ".opencode/agent/")
"""Where a repository keeps roles; `a/b.md` there is the role `a/b`."""

_NAME = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")
_PERMISSION = re.compile(r"[A-Za-z*?][\w*?.:/-]*")
_ACTIONS = ("allow", "ask", "deny")
_MODES = ("primary", "subagent", "all")
_EDITORS = ("write", "edit", "patch")
_PASSED_OVER = ("color", "prompt", "name")
"""`color` is for opencode's own interface, the prompt is the text below, and the file's path is the name."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role as written: `options` are opencode's keys except for its permissions, `text` is its instructions.

    `permission` is what it asks for, not what it gets. `where` is its file, "" for a shipped role.
    """

    name: str
    text: str
    options: Mapping[str, Any]
    permission: Rules = ()
    where: str = ""

    @property
    def is_disabled(self) -> bool:
        return self.options.get("disable") is True

    @property
    def model(self) -> str:
        """`provider/model`, "" if the role names none."""
        return str(self.options.get("model", ""))


def load_shipped() -> dict[str, Role]:
    """Return the roles that are shipped with coordinator."""
    directory = files("tasks_lib.agents.opencode") / "roles"
    texts = {entry.name: entry.read_text("utf-8") for entry in directory.iterdir() if entry.name.endswith(".md")}
    roles = read_roles({PLACES[0] + name: text for name, text in sorted(texts.items())})
    return {name: replace(role, where="") for name, role in roles.items()}


def read_roles(texts: Mapping[str, str]) -> dict[str, Role]:
    """Return the roles in `texts`, path → content; paths outside `PLACES` are ignored.

    Raises InputError with every fault, by file and line.
    """
    faults: list[Fault] = []
    roles: dict[str, Role] = {}
    for path in sorted(texts):
        name = _name(path)
        if name is None:
            continue
        if not _NAME.fullmatch(name):
            faults.append(Fault(path, 0, f'defines the role "{name}"; use only letters, digits, `-`, `_` and `.`'))
        elif name in roles:
            faults.append(Fault(path, 0, f"defines the role {name}, as does {roles[name].where}; remove one of them"))
        else:
            role, found = read_role(name, path, texts[path])
            faults += found
            roles[name] = role
    if faults:
        raise InputError(faults)
    return roles


def _name(path: str) -> str | None:
    place = next((place for place in PLACES if path.startswith(place)), None)
    return path.removeprefix(place).removesuffix(".md") if place and path.endswith(".md") else None


def read_role(name: str, path: str, text: str) -> tuple[Role, list[Fault]]:
    """Return the role in `text`, the content of `path`, as far as it can be read, and what is wrong with it."""
    block = find_block(text)
    if block is None:
        return Role(name, text.strip(), {}, where=path), []
    if block.end < 0:
        return Role(name, "", {}, where=path), [Fault(path, 1, "its front matter is not closed; add a `---` line")]
    body = text[block.end :].split("\n", 1)
    table, found = read_yaml(text[block.start : block.end], path, 2)
    reader = _Reader(path, list(found))
    options = reader.read(table) if table else {}
    return Role(name, body[1].strip() if body[1:] else "", options, tuple(reader.rules), path), reader.faults


class _Reader:
    """Reads the front matter of one role."""

    def __init__(self, path: str, faults: list[Fault]) -> None:
        self.faults: list[Fault] = faults
        self.rules: list[Rule] = []
        self._path: str = path

    def _fault(self, line: int, message: str) -> None:
        self.faults.append(Fault(self._path, line, message))

    def read(self, table: Table) -> dict[str, Any]:
        options: dict[str, Any] = {}
        nodes = {key.value: (key, node) for key, node in table.pairs}
        # opencode applies the old form first, so that the new one takes precedence.
        for key, node in (nodes[name] for name in ("tools", "permission") if name in nodes):
            self._read_tools(node) if key.value == "tools" else self._read_permission(key, node)
        for name, (key, node) in nodes.items():
            value = to_value(node)
            if name in ("tools", "permission", *_PASSED_OVER) or value is None:
                continue
            known = "steps" if name == "maxSteps" else name
            if fault := _check_option(known, value):
                self._fault(key.line, fault)
            else:
                options[known] = value
        return options

    def _read_tools(self, node: Node) -> None:
        """Read `tools: {bash: false}`, the old form; `true` means nothing, because what is not refused is allowed."""
        if not isinstance(node, Table):
            self._fault(node.line, "tools is not a mapping; write `permission:` with lines such as `bash: deny`")
            return
        for key, value in node.pairs:
            chosen = to_value(value)
            if not isinstance(chosen, bool):
                self._fault(key.line, f"tools.{key.value} is neither true nor false; write one of them")
            elif self._is_permission(key) and not chosen:
                self.rules.append(Rule("edit" if key.value in _EDITORS else key.value, "*", "deny"))

    def _read_permission(self, key: Scalar, node: Node) -> None:
        if isinstance(node, Scalar):
            self._add(key.line, "*", "*", to_value(node))
        elif isinstance(node, Table):
            for name, value in node.pairs:
                if self._is_permission(name):
                    self._read_patterns(name, value)
        else:
            self._fault(node.line, "permission is a list; write lines such as `bash: deny` below it")

    def _read_patterns(self, name: Scalar, node: Node) -> None:
        if isinstance(node, Scalar):
            self._add(name.line, name.value, "*", to_value(node))
            return
        if not isinstance(node, Table):
            self._fault(name.line, f"permission.{name.value} is a list; write lines such as `'git *': allow` below it")
            return
        for pattern, action in node.pairs:
            if fault := find_pattern_fault(name.value, pattern.value):
                self._fault(pattern.line, f"permission.{name.value} {fault}")
            else:
                self._add(pattern.line, name.value, pattern.value, to_value(action))

    def _add(self, line: int, permission: str, pattern: str, action: object) -> None:
        if action in _ACTIONS:
            self.rules.append(Rule(permission, pattern, str(action)))
        else:
            self._fault(line, f"permission.{permission} is {_show(action)}; write allow, ask or deny")

    def _is_permission(self, key: Scalar) -> bool:
        if _PERMISSION.fullmatch(key.value):
            return True
        self._fault(key.line, f'"{key.value}" is not a permission; write e.g. bash, edit or webfetch')
        return False


def _check_option(name: str, value: object) -> str | None:
    """Return what is wrong with the value of an opencode key; unknown keys are passed to the model's provider."""
    match name:
        case "mode" if value not in _MODES:
            return f"mode is {_show(value)}; write primary, subagent or all"
        case "model" if not isinstance(value, str) or not is_model_name(value):
            return f"model is {_show(value)}; write it as provider/model, as listed by `opencode models`"
        case "description" | "variant" if not isinstance(value, str):
            return f"{name} is {_show(value)}; write text"
        case "temperature" | "top_p" if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{name} is {_show(value)}; write a number"
        case "steps" if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            return f"steps is {_show(value)}; write a whole number, 1 or more"
        case "disable" | "hidden" if not isinstance(value, bool):
            return f"{name} is {_show(value)}; write true or false"
        case "options" if not isinstance(value, Mapping):
            return f"options is {_show(value)}; write its keys on separate, indented lines below it"
        case _:
            return None


def _show(value: object) -> str:
    if isinstance(value, Mapping | list):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    return "empty" if value is None else f'"{value}"'


def check_role_requirements(
    needs: "Iterable[Need]",
    known: Iterable[str],
    roles: Mapping[str, Role] | None = None,
    refused: Collection[str] = (),
) -> list[str]:
    """Return a sentence for each needed role that is not in `known`; `roles` says which of them are disabled.

    `refused` are the agents that the user's own configuration disables.
    """
    names = sorted(known)
    faults: dict[str, str] = {}
    for need in needs:
        if need.role in names or need.role in faults:
            continue
        disabled = (roles or {}).get(need.role)
        if disabled and disabled.is_disabled:
            reason = f"{disabled.where} disables it; remove `disable` there, or choose another role"
        elif need.role in refused:
            place = "your own opencode configuration disables the agent with this name"
            reason = f"{place}; remove `disable` there, or choose another role"
        else:
            reason = f"no role has this name{suggest(need.role, names) or '.'} Available roles: {', '.join(names)}"
        faults[need.role] = f"{need.where or 'coordinator.yaml'}: the role {need.role} is not available: {reason}"
    return list(faults.values())


def list_usable(roles: Iterable[Role]) -> Sequence[str]:
    """Return the names of the roles that are not disabled."""
    return sorted(role.name for role in roles if not role.is_disabled)
