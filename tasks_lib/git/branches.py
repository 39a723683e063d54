"""Reads what a branch holds: its head, what is not committed, what it changed and what it says."""

import re
from dataclasses import dataclass

from tasks_lib.git.objects import Objects
from tasks_lib.git.runner import Git

STAT_WIDTH = 100
STAT_FILES = 20
MAX_LINE = 1_000


@dataclass(frozen=True, slots=True)
class BranchState:
    """A worktree's branch ("" if HEAD is detached), its commit, and the paths that are not committed."""

    branch: str
    commit: str
    dirty: tuple[str, ...]


def read_state(git: Git) -> BranchState:
    """What `git status` says of the worktree that `git` runs in: one command."""
    found = git.run("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames").text
    branch = commit = ""
    dirty: list[str] = []
    for entry in found.split("\0"):
        match entry[:2]:
            case "# ":
                _, key, value = entry.split(" ", 2)
                branch = value if key == "branch.head" and value != "(detached)" else branch
                commit = value if key == "branch.oid" else commit
            case "1 ":
                dirty.append(entry.split(" ", 8)[8])
            case "u ":
                dirty.append(entry.split(" ", 10)[10])
            case "? ":
                dirty.append(entry[2:])
            case _:
                pass
    return BranchState(branch, commit, tuple(dirty))


def find_changed_paths(git: Git, head: str, commit: str) -> tuple[str, ...]:
    """The paths that `commit` changed since it left `head`."""
    found = git.run("diff", "--name-only", "--no-renames", "-z", f"{head}...{commit}", "--").text
    return tuple(path for path in found.split("\0") if path)


@dataclass(frozen=True, slots=True)
class Line:
    """The first-parent line from one commit to another: its `subjects`, newest first.

    `is_plain` says that it was followed to its start and has no merge, so that a diff of its ends is its work.
    """

    subjects: tuple[str, ...]
    is_plain: bool


def read_line(objects: Objects, since: str, commit: str) -> Line:
    """Follow first parents from `commit` back to `since`, at most `MAX_LINE` of them, without starting git."""
    subjects: list[str] = []
    is_plain = True
    while commit != since and len(subjects) < MAX_LINE:
        header, _, message = objects.read(commit).partition(b"\n\n")
        parents = [line[len(b"parent ") :].decode() for line in header.split(b"\n") if line.startswith(b"parent ")]
        subjects.append(message.partition(b"\n")[0].decode("utf-8", "replace"))
        is_plain = is_plain and len(parents) == 1
        if not parents:
            break
        commit = parents[0]
    return Line(tuple(subjects), is_plain and commit == since)


def read_shortstat(git: Git, base: str) -> str:
    """What the worktree changes against `base`, committed or not, such as `3 files +40 -2`; "" for nothing."""
    found = re.findall(r"(\d+) (file|insertion|deletion)", git.text("diff", "--shortstat", "--no-renames", base, "--"))
    counts = {what: count for count, what in found}
    if not counts:
        return ""
    files = f"{counts['file']} file{'s' * (counts['file'] != '1')}"
    return f"{files} +{counts.get('insertion', '0')} -{counts.get('deletion', '0')}"


def read_diffstat(git: Git, merge: str) -> str:
    """What `merge` changed against its first parent, as git's short table of files."""
    stat = f"--stat={STAT_WIDTH},,{STAT_FILES}"
    return git.text("diff", stat, "--no-renames", f"{merge}^1", merge, "--")
