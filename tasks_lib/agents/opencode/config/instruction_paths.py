"""Decides which entries of opencode's `instructions` are files of the repository, which no server of a run finds."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

_ELSEWHERE = re.compile(r"/|~|\{|[A-Za-z][A-Za-z0-9+.-]*://")
"""How entries begin that opencode finds by itself: absolute paths, those in a home, replaced ones, and addresses."""
_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_WILDCARD = re.compile(r"\*\*/|\*\*|\*|\?")


def split_instructions(config: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the relative paths and patterns in `instructions` of opencode's `config`, and `config` without them.

    opencode looks for them from the worktree, where a branch may have changed them, or, with what its servers are
    started with here, next to its own configuration.
    """
    found = config.get("instructions")
    if not isinstance(found, list | tuple):
        return [], dict(config)
    entries = cast("Sequence[Any]", found)
    relative = [entry for entry in entries if isinstance(entry, str) and entry and not _ELSEWHERE.match(entry)]
    kept = [entry for entry in entries if entry not in relative]
    rest = {name: value for name, value in config.items() if name != "instructions"}
    return [entry.removeprefix("./") for entry in relative], {**rest, "instructions": kept} if kept else rest


def is_pattern(entry: str) -> bool:
    """Whether `entry` may stand for several files."""
    return bool(_WILDCARD.search(entry))


def matches_entry(entry: str, path: str) -> bool:
    """Whether the pattern `entry` stands for `path`: `*` and `?` within a folder, `**` across folders."""
    pattern, at = "", 0
    for found in _WILDCARD.finditer(entry):
        pattern += re.escape(entry[at : found.start()]) + _WILDCARDS[found.group()]
        at = found.end()
    return bool(re.fullmatch(pattern + re.escape(entry[at:]), path, re.DOTALL))
