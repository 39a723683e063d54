"""Decides what an agent did outside of its worktree, as far as its tools say where they work."""

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

MAX_SAID = 5
_WRITERS = ("write", "edit", "multiedit", "patch", "apply_patch")
_SHELL = "bash"


def find_places(tool: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a tool with this input changes files or runs a shell, as the agent wrote it; nothing for other tools."""
    key = "filePath" if tool in _WRITERS else "workdir" if tool == _SHELL else ""
    place = given.get(key)
    return (place,) if isinstance(place, str) and place else ()


def find_outside(places: Iterable[str], worktrees: Iterable[str], scratch: Iterable[str] = ()) -> tuple[str, ...]:
    """The `places` that are in none of `worktrees`, the names of one directory, and not below `scratch`.

    Relative places start in the worktree.
    """
    roots = [posixpath.normpath(root) for root in (*worktrees, *scratch)]
    if not roots:
        return ()
    paths = (posixpath.normpath(posixpath.join(roots[0], place)) for place in places)
    return tuple(path for path in paths if not any(path == root or path.startswith(f"{root}/") for root in roots))


def describe_outside(places: Iterable[str]) -> str:
    """Name some of the places where an agent worked, for a reader."""
    said = list(dict.fromkeys(places))
    rest = f" and {len(said) - MAX_SAID} more" if len(said) > MAX_SAID else ""
    return f"{', '.join(said[:MAX_SAID])}{rest}"


def warn_agent(said: Iterable[str]) -> str:
    """What an agent is told about work outside of its worktree, in front of its next prompt; "" for nothing."""
    lines = "\n".join(f"- {one}" for one in said)
    if not lines:
        return ""
    return (
        f"Noticed during your last turn:\n{lines}\n"
        "Work only in your worktree, which is the directory that you started in: nothing else can land. If you did "
        "this, undo it, and do it in your worktree. If you did not, leave it as it is."
    )
