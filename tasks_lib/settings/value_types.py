"""Validates the single values of a configuration: lines, paths, branches, roles, variables, models, addresses."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from tasks_lib.model import MAX_NAME_CHARS, is_model_name, is_role_name
from tasks_lib.naming import find_branch_fault, find_id_fault, show
from tasks_lib.suggestions import suggest

MAX_PART_BYTES, MAX_PATH_BYTES = 255, 1000
"""The limit of most file systems for one name, and a length that leaves room for the path of the repository."""
DEFAULT_ROLE = "implementation-specialist"
_VARIABLE = re.compile(r"[A-Za-z0-9_*?!\[\]^-]+")
_GLOB_TOKEN = re.compile(r"\*+|\[!?\]?[^\]]*\]|.", re.DOTALL)
_PRIVATE = "PREFECT_"
PERMISSIONS = ("allow", "ask", "deny")
KEPT_CONFIG: Mapping[str, str] = {
    "permission": "write it as agent.permission",
    "tools": "write it as agent.permission",
    "model": "write it as agent.model",
    "agent": "define roles in .opencode/agents/<name>.md, and commit them",
    "mode": "define roles in .opencode/agents/<name>.md, and commit them",
    "default_agent": "the level of a task determines its role; use `roles` to change it",
    "plugin": "plugins could change what sessions may do and see, so remove it",
    "server": "the coordinator chooses the address of each server, so remove it",
    "share": "sessions are never shared, so remove it",
    "autoshare": "sessions are never shared, so remove it",
    "autoupdate": "you choose the version of opencode, so remove it",
    "snapshot": "git keeps what agents do, so remove it",
}
"""Keys of opencode's configuration that `agent.config` cannot set, each with what to do instead."""


class Section(BaseModel):
    """An immutable mapping with known keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)


def check_line(line: str) -> str:
    if not line.strip() or "\0" in line:
        raise ValueError("is an empty line; remove it" if "\0" not in line else "contains a NUL character; remove it")
    return line


def check_word(word: str) -> str:
    if "\0" in word:
        raise ValueError("contains a NUL character; remove it")
    return word


def check_path(path: object) -> str:
    """`path` in its plain form (`a/b`); raises ValueError unless it stays below the directory it is relative to."""
    if not isinstance(path, str):
        raise ValueError('is not text; put it in quotes, e.g. "tasks"')  # noqa: TRY004 - pydantic takes ValueError.
    sizes = [len(part.encode("utf-8", "surrogatepass")) for part in path.split("/")]
    if max(sizes) > MAX_PART_BYTES or sum(sizes) > MAX_PATH_BYTES:
        limits = f"the limits are {MAX_PART_BYTES} bytes per part and {MAX_PATH_BYTES} in total"
        raise ValueError(f'is "{show(path)}", which is too long; {limits}')
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith(("/", "~")):
        raise ValueError(f'is "{show(path)}", which is not relative; write it relative to the top of the repository')
    if ".." in parts:
        raise ValueError(f'is "{show(path)}", which contains `..`; write a path inside the repository')
    # On a case-insensitive file system, `.GIT` is the same directory.
    if not parts or ".git" in map(str.casefold, parts):
        raise ValueError(f'is "{show(path)}", which is not a file or directory of a worktree; name one')
    if not path.isprintable() or "\\" in path:
        shown = show(path)
        raise ValueError(f'is "{shown}", which contains a backslash or an unprintable character; use `/` in paths')
    return "/".join(parts)


def check_branch(name: str) -> str:
    if name and (fault := find_id_fault(name)):
        raise ValueError(f'is "{show(name)}", which {fault}; write a valid branch name')
    if fault := find_branch_fault(name):
        raise ValueError(f'is "{show(name)}", which {fault}; write a plain branch name, e.g. main')
    return name


def check_remote(name: str) -> str:
    # git would push to a URL too, and would read a word such as `--upload-pack=…` as an option.
    if fault := find_id_fault(name):
        raise ValueError(f'is "{name}", which {fault}; write the name of a remote, as `git remote` lists it')
    return name


def check_role(role: str) -> str:
    if not is_role_name(role):
        raise ValueError(f'is "{show(role)}"; write the name of a role, e.g. {DEFAULT_ROLE}')
    return role


def check_variable(pattern: str) -> str:
    if not _VARIABLE.fullmatch(pattern) or len(pattern) > MAX_NAME_CHARS:
        advice = "write the name of a variable or a glob, e.g. `NPM_*`, without a value"
        raise ValueError(f'is "{show(pattern)}"; {advice}')
    if _can_start_with(pattern, _PRIVATE):
        raise ValueError(
            f'is "{show(pattern)}", which can match {_PRIVATE}*; those are never passed on, so use a narrower pattern'
        )
    return pattern


def _can_start_with(pattern: str, prefix: str) -> bool:
    """Whether the glob `pattern` can match a name that starts with `prefix`."""
    tokens = _GLOB_TOKEN.findall(pattern)
    places = {0}  # The number of tokens used, for every way to match the prefix so far.
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
        # Treat a character class as matching anything: rejecting a few names too many is safe.
        return True
    return token == character


def check_model(model: str) -> str:
    if model and (not is_model_name(model) or len(model) > MAX_NAME_CHARS):
        raise ValueError(f'is "{show(model)}"; write it as provider/model, as `opencode models` lists it')
    return model


def check_url(url: str) -> str:
    if url and not re.fullmatch(r"https?://[^\s/@?#]+/?", url):
        raise ValueError(f'is "{show(url)}"; write an address, e.g. http://127.0.0.1:4096, without a password')
    return url.rstrip("/")


def check_config_key(key: str) -> str:
    if key in KEPT_CONFIG:
        raise ValueError(f"cannot be set here; {KEPT_CONFIG[key]}")
    return key


def check_permission(rule: object) -> object:
    """Validate `rule` as opencode reads it: one word, or one per pattern, of which the last match applies."""
    if not isinstance(rule, Mapping):
        _check_permission_word(rule, "is")
        return rule
    for pattern, word in cast("Mapping[str, object]", rule).items():
        _check_permission_word(word, f'for "{show(pattern)}" is')
    return cast("object", rule)


def _check_permission_word(word: object, where: str) -> None:
    if word not in PERMISSIONS:
        said = f'"{show(word)}"' if isinstance(word, str) else "not a word"
        hint = suggest(word.casefold(), PERMISSIONS) if isinstance(word, str) else ""
        raise ValueError(f"{where} {said}; use allow, ask or deny{hint}")


Line = Annotated[str, AfterValidator(check_line)]
Word = Annotated[str, AfterValidator(check_word)]
RelativePath = Annotated[str, AfterValidator(check_path)]
RemoteName = Annotated[str, AfterValidator(check_remote)]
Role = Annotated[str, AfterValidator(check_role)]
Variable = Annotated[str, AfterValidator(check_variable)]
Model = Annotated[str, AfterValidator(check_model)]
ConfigKey = Annotated[str, AfterValidator(check_config_key)]
Permission = Literal["allow", "ask", "deny"]
PermissionRule = Annotated[Permission | Mapping[str, Permission], BeforeValidator(check_permission)]
Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Dollars = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True)]
