"""Merges two commits in memory with `git merge-tree`, and describes conflicts; no ref or file changes."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from tasks_lib.errors import GitError
from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.runner import Git

_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SHOWN_COMMITS = 20
"""Enough to see who touched a file; an agent reads the rest with `git log`."""
_UNRELATED = "refusing to merge unrelated histories"


class Message(NamedTuple):
    """A message from git's merge: `paths` it is about, `kind` (`CONFLICT (contents)`, `Auto-merging` …) and text."""

    paths: tuple[str, ...]
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class RawMerge:
    """The tree that git wrote, with conflict markers at the paths `conflicted`, and its messages."""

    tree: str
    conflicted: tuple[str, ...]
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """The two sides cannot be merged: the conflicting `paths` (may be empty) and git's `messages`.

    `clashes` say what git merges although it may not land: new task files that cannot be used. `head_commits` and
    `branch_commits` are `abc1234 subject` lines, newest first, of the commits on either side that touched those paths
    since the merge base.
    """

    paths: tuple[str, ...]
    messages: tuple[str, ...]
    head_commits: tuple[str, ...] = ()
    branch_commits: tuple[str, ...] = ()
    clashes: tuple[str, ...] = ()


def merge_trees(isolation: IsolatedGit, objects: Objects, head: str, branch: str) -> RawMerge | Conflict:
    """Merge the commit `branch` onto the commit `head`, using only the attributes in `head`.

    All merges of whole commits go through here, for landing and for the audit: both produce the same tree on every
    machine, whatever is checked out. Returns a Conflict only if the two share no history; other conflicts are in the
    RawMerge. Raises GitError for any other failure.
    """
    options = ("--write-tree", "-z", "--name-only", "--messages")
    git = isolation.merging(objects, head)
    result = git.run("merge-tree", *options, head, branch, accept=(0, 1, 128))
    fields = result.stdout.decode("utf-8", "surrogateescape").split("\0")
    if result.status != 128 and _OBJECT_ID.fullmatch(fields[0]):  # A bad revision exits with 1 too, without a tree.
        return _parse(fields)
    if _UNRELATED in result.stderr:
        return Conflict((), ("The branch has no commit in common with the head; recreate it from the head.",))
    raise GitError(("merge-tree", *options, head, branch), result.status, result.stderr)


def _parse(fields: list[str]) -> RawMerge:
    """Parse `<tree>`, the conflicted paths, an empty field; then per message a path count, paths, kind, text."""
    end = fields.index("", 1) if "" in fields[1:] else len(fields)
    messages: list[Message] = []
    position = end + 1
    # For submodules, git appends advice that is not in this format.
    while position < len(fields) and fields[position].isdecimal():
        count = int(fields[position])
        paths = tuple(fields[position + 1 : position + 1 + count])
        kind, text = fields[position + 1 + count : position + 3 + count]
        messages.append(Message(paths, kind, text.strip()))
        position += count + 3
    return RawMerge(fields[0], tuple(dict.fromkeys(fields[1:end])), tuple(messages))


def describe_conflict(git: Git, merge: RawMerge, paths: Collection[str], head: str, branch: str) -> Conflict:
    """Return what the user or an agent needs to resolve the conflict in `paths`."""
    about = [m for m in merge.messages if m.kind.startswith("CONFLICT") and (not m.paths or set(m.paths) & set(paths))]
    return Conflict(
        tuple(sorted(paths)),
        tuple(message.text for message in about),
        list_commits(git, branch, head, paths),
        list_commits(git, head, branch, paths),
    )


def list_commits(git: Git, without: str, of: str, paths: Collection[str]) -> tuple[str, ...]:
    """List the commits in `of` but not in `without` that touched `paths` as `abc1234 subject`, the newest 20."""
    if not paths:
        return ()
    log = ("--literal-pathspecs", "log", f"--max-count={_SHOWN_COMMITS}", "--format=%h %s", "--no-show-signature")
    found = git.run(*log, f"{without}..{of}", "--", *sorted(paths)).stdout.decode("utf-8", "replace")
    return tuple(line for line in found.splitlines() if line)


def find_merge_base(git: Git, head: str, branch: str) -> str | None:
    """Return a best common ancestor of two commits, or None if they share no history."""
    return git.run("merge-base", head, branch, accept=(0, 1)).text.partition("\n")[0] or None


def is_ancestor(git: Git, old: str, new: str) -> bool:
    """Whether `old` is `new` or an ancestor of it. Raises GitError if one of them does not exist."""
    return git.succeeds("merge-base", "--is-ancestor", old, new)
