"""Compares what the program shows with what a release promised, recorded below `promises/`.

Record anew with `RECORD_PROMISES=1 .venv/bin/python -m pytest -n 0 tests/cli/test_compatibility.py
tests/e2e/test_compatibility_runs.py tests/e2e/test_people.py`, and look at the difference. That is allowed for what was
added. What is gone or renamed there breaks a program of a user's, so it needs a new major version and an entry in the
changelog.
"""

import difflib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

PROMISES = Path(__file__).parent / "promises"
IS_RECORDING = bool(os.environ.get("RECORD_PROMISES"))
WORDS = (
    *("outcome", "status", "stage", "kind", "rule", "exit_code", "assignee", "wish", "is_done"),
    *("has_errors", "is_warning", "was_killed", "is_alive", "is_dry_run"),
)
"""Keys whose values are promised, too."""
BROKEN = (
    "{name} is a promise: programs of users rely on these names. Keep them. If something was only added, record it anew "
    "as {file} says; whatever is gone or renamed needs a new major version."
)


def keep_promise(name: str, found: object) -> None:
    """Fail, with the difference, unless `found` is what stands in `promises/<name>.json`."""
    keep_promises({name: found})


def keep_promises(found: Mapping[str, object]) -> None:
    """Do so for each of `found`, by name, and tell all differences at once."""
    broken = [told for name, one in found.items() if (told := _compare(name, one))]
    if broken:
        pytest.fail("\n\n".join(broken), pytrace=False)


def _compare(name: str, found: object) -> str:
    """What is wrong with it, "" for nothing."""
    file = PROMISES / f"{name}.json"
    text = json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if IS_RECORDING:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    promised = file.read_text(encoding="utf-8")
    if text == promised:
        return ""
    lines = difflib.unified_diff(promised.splitlines(), text.splitlines(), "promised", "found", n=2, lineterm="")
    return "\n".join([BROKEN.format(name=name, file="tests/compatibility/golden.py"), *lines])


def read_promise(name: str) -> Any:
    """What is promised in `promises/<name>.json`."""
    return json.loads((PROMISES / f"{name}.json").read_text(encoding="utf-8"))


def describe_shape(value: object, words: Collection[str] = WORDS) -> object:
    """The keys of `value` at every depth, with the type of each value; of keys in `words` the values themselves.

    The entries of a list become one: a key that only some of them have ends with `?`.
    """
    match value:
        case Mapping():
            known = cast("Mapping[str, object]", value)
            return {key: _describe(key, one, words) for key, one in known.items()}
        case list():
            shapes = [describe_shape(one, words) for one in cast("list[object]", value)]
            return [_join(shapes)] if shapes else []
        case _:
            return _name_type(value)


def _describe(key: str, value: object, words: Collection[str]) -> object:
    if key in words and isinstance(value, str | int):
        return f"{_name_type(value)} {json.dumps(value)}"
    return describe_shape(value, words)


def _name_type(value: object) -> str:
    names = {"str": "string", "bool": "boolean", "int": "integer", "float": "number", "NoneType": "null"}
    return names[type(value).__name__]


def _join(shapes: Iterable[object]) -> object:
    """One shape for all of `shapes`."""
    found = list(shapes)
    if all(isinstance(one, dict) for one in found):
        maps = cast("list[dict[str, object]]", found)
        keys = {key for one in maps for key in one}
        return {
            key if all(key in one for one in maps) else f"{key}?": _join(one[key] for one in maps if key in one)
            for key in keys
        }
    if all(isinstance(one, list) for one in found):
        lists = [one for one in cast("list[list[object]]", found) if one]
        return [_join(inner for one in lists for inner in one)] if lists else []
    texts = {one if isinstance(one, str) else json.dumps(one, sort_keys=True) for one in found}
    return " | ".join(sorted({part for text in texts for part in text.split(" | ")}))
