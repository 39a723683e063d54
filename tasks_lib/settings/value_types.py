"""Decides which single values a configuration may hold: lines, paths, branches, roles, variables, models, addresses."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from tasks_lib.model import is_model_name
from tasks_lib.naming import find_branch_fault, find_id_fault, show
from tasks_lib.suggestions import suggest

MAX_PART_BYTES, MAX_PATH_BYTES = 255, 1000
"""What most file systems take of one name, and what leaves room for the place that the repository lies at."""
DEFAULT_ROLE = "implementation-specialist"
MAX_NAME_CHARS = 200
"""Of a role, a variable or a model."""
_VARIABLE = re.compile(r"[A-Za-z0-9_*?!\[\]^-]+")
_GLOB_TOKEN = re.compile(r"\*+|\[!?\]?[^\]]*\]|.", re.DOTALL)
_ROLE = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")
_PRIVATE = "PREFECT_"
PERMISSIONS = ("allow", "ask", "deny")
KEPT_CONFIG: Mapping[str, str] = {
    "permission": "write it as agent.permission",
    "tools": "write it as agent.permission",
    "model": "write it as agent.model",
    "agent": "write roles as .opencode/agents/<name>.md, and commit them",
    "mode": "write roles as .opencode/agents/<name>.md, and commit them",
    "default_agent": "the role follows from the level of a task, and `roles` changes it",
    "plugin": "plugins could change what sessions may do and see, so take it out",
    "server": "servers are started on addresses of their own, so take it out",
    "share": "sessions are never shared, so take it out",
    "autoshare": "sessions are never shared, so take it out",
    "autoupdate": "the version is yours to choose, so take it out",
    "snapshot": "git keeps what agents do, so take it out",
}
"""Keys of opencode's own configuration that `agent.config` cannot set, each with what to do."""


class Section(BaseModel):
    """A mapping with known keys, read once and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)


def check_line(line: str) -> str:
    if not line.strip() or "\0" in line:
        raise ValueError(
            "holds an empty line; take it out" if "\0" not in line else "holds a NUL character; take it out"
        )
    return line


def check_word(word: str) -> str:
    if "\0" in word:
        raise ValueError("holds a NUL character; take it out")
    return word


def check_path(path: object) -> str:
    """`path` in its plain form (`a/b`), refused unless it stays below the directory that it is relative to."""
    if not isinstance(path, str):
        raise ValueError('is not text; write it in quotes, such as "tasks"')  # noqa: TRY004 - pydantic takes ValueError.
    sizes = [len(part.encode("utf-8", "surrogatepass")) for part in path.split("/")]
    if max(sizes) > MAX_PART_BYTES or sum(sizes) > MAX_PATH_BYTES:
        limits = f"at most {MAX_PART_BYTES} bytes a part and {MAX_PATH_BYTES} in all are taken"
        raise ValueError(f'is "{show(path)}", which is too long; {limits}')
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith(("/", "~")):
        raise ValueError(f'is "{show(path)}", which is not relative; write it from the top of the repository')
    if ".." in parts:
        raise ValueError(f'is "{show(path)}", which holds `..`; name a path inside the repository')
    # On a disk that does not tell case apart, `.GIT` is the same.
    if not parts or ".git" in map(str.casefold, parts):
        raise ValueError(f'is "{show(path)}", which is no file or directory of a worktree; name one')
    if not path.isprintable() or "\\" in path:
        shown = show(path)
        raise ValueError(f'is "{shown}", which holds a backslash or an unprintable character; write the path with `/`')
    return "/".join(parts)


def check_branch(name: str) -> str:
    if name and (fault := find_id_fault(name)):
        raise ValueError(f'is "{show(name)}", which {fault}; write a name that git takes for a branch')
    if fault := find_branch_fault(name):
        raise ValueError(f'is "{show(name)}", which {fault}; write the name of a branch alone, such as main')
    return name


def check_remote(name: str) -> str:
    # An address would be pushed to as well, and a word such as `--upload-pack=…` would be taken for an option.
    if fault := find_id_fault(name):
        raise ValueError(f'is "{name}", which {fault}; write the name of a remote, as `git remote` lists it')
    return name


def check_role(role: str) -> str:
    if not _ROLE.fullmatch(role) or len(role) > MAX_NAME_CHARS:
        raise ValueError(f'is "{show(role)}"; write the name of a role, such as {DEFAULT_ROLE}')
    return role


def check_variable(pattern: str) -> str:
    if not _VARIABLE.fullmatch(pattern) or len(pattern) > MAX_NAME_CHARS:
        advice = "write the name of a variable or a glob such as `NPM_*`, without a value"
        raise ValueError(f'is "{show(pattern)}"; {advice}')
    if _can_start_with(pattern, _PRIVATE):
        raise ValueError(
            f'is "{show(pattern)}", which can match {_PRIVATE}*; no command may see those, so name others exactly'
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


def check_model(model: str) -> str:
    if model and (not is_model_name(model) or len(model) > MAX_NAME_CHARS):
        raise ValueError(f'is "{show(model)}"; write it as provider/model, the way `opencode models` lists it')
    return model


def check_url(url: str) -> str:
    if url and not re.fullmatch(r"https?://[^\s/@?#]+/?", url):
        raise ValueError(f'is "{show(url)}"; write an address such as http://127.0.0.1:4096, without a password in it')
    return url.rstrip("/")


def check_config_key(key: str) -> str:
    if key in KEPT_CONFIG:
        raise ValueError(f"is for the coordinator to decide; {KEPT_CONFIG[key]}")
    return key


def check_permission(rule: object) -> object:
    """`rule` as opencode takes it: one word, or a word for each pattern, the last that matches counting."""
    if not isinstance(rule, Mapping):
        _check_permission_word(rule, "is")
        return rule
    for pattern, word in cast("Mapping[str, object]", rule).items():
        _check_permission_word(word, f'for "{show(pattern)}" is')
    return cast("object", rule)


def _check_permission_word(word: object, where: str) -> None:
    if word not in PERMISSIONS:
        said = f'"{show(word)}"' if isinstance(word, str) else "no word"
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
