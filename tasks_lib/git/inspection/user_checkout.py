"""Reads the state of the user's own checkout, and describes how it changed while agents were working elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks_lib.errors import GitError
from tasks_lib.git.repository import Repository
from tasks_lib.naming import show
from tasks_lib.process.files import read_stamp
from tasks_lib.text import tell_rest

MAX_SHOWN = 8
_STATUS = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--no-renames")
_PATH_AT = {"1 ": 8, "u ": 10, "? ": 1}
"""How many fields precede the path in each kind of entry."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """The branch ("" for none) and commit of a checkout, and a mark of each path with uncommitted changes."""

    branch: str
    commit: str
    changed: Mapping[str, object]


def read_checkout(repository: Repository) -> Checkout | None:
    """Read the user's checkout; None if there is none, or git cannot read it.

    Takes one `git status`, which writes nothing.
    """
    if repository.is_bare:
        return None
    try:
        found = repository.git.run("--no-optional-locks", *_STATUS).text
    except GitError:
        return None
    branch = commit = ""
    paths: list[str] = []
    for entry in found.split("\0"):
        if entry.startswith("# branch."):
            _, key, value = entry.split(" ", 2)
            branch = value if key == "branch.head" and value != "(detached)" else branch
            commit = value if key == "branch.oid" else commit
        elif fields := _PATH_AT.get(entry[:2]):
            paths.append(entry.split(" ", fields)[fields])
    changed = {path: read_stamp(repository.top / path) for path in paths}
    return Checkout(branch, commit, changed)


def describe_checkout_changes(before: Checkout, now: Checkout, ignored: str = "") -> list[str]:
    """Say what changed, a few words each; nothing below the directory `ignored`, and no commits on the same branch."""
    said: list[str] = []
    if before.branch != now.branch:
        said.append(f"its branch ({show(before.branch) or 'none'} → {show(now.branch) or 'none'})")
    paths = [path for path, mark in now.changed.items() if before.changed.get(path) != mark]
    if (before.branch, before.commit) == (now.branch, now.commit):
        # Otherwise they were committed, or belong to another branch.
        paths += [path for path in before.changed if path not in now.changed]
    said += [show(path) for path in sorted(paths) if not (ignored and path.startswith(f"{ignored}/"))]
    return [one for one in (*said[:MAX_SHOWN], tell_rest(len(said), MAX_SHOWN, "and ")) if one]
