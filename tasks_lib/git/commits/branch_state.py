"""Reads the state of a branch: its head, uncommitted paths, changes and commit subjects."""

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass

from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.commits.merge_tree import find_merge_base
from tasks_lib.git.objects.object_database import Change, Entry, Objects
from tasks_lib.git.runner import Git

STAT_WIDTH = 100
STAT_FILES = 20
MAX_LINE = 1_000
MAX_DIGESTED = 1_000
DIGESTED_BYTES = 1_000_000
SHORT_STAT = ("--shortstat", "--no-renames", "--no-ext-diff")
NO_MODE = "000000"


@dataclass(frozen=True, slots=True)
class BranchState:
    """A worktree's branch ("" if HEAD is detached), its commit, and the paths with uncommitted changes."""

    branch: str
    commit: str
    dirty: tuple[str, ...]


def read_state(git: Git) -> BranchState:
    """Read the state of the worktree that `git` runs in, with one `git status`."""
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


def digest_work(git: Git) -> str:
    """Return a digest that changes exactly when the work in `git`'s worktree changes, committed or not.

    Rewriting a file with the same content does not count as a change. Of uncommitted files beyond the first
    MAX_DIGESTED, only the size is compared; of files over DIGESTED_BYTES, only the size and that many bytes.
    """
    state = read_state(git)
    digest = hashlib.sha256(state.commit.encode())
    for number, name in enumerate(sorted(state.dirty)):
        path = git.directory / name
        digest.update(f"\0{name}\0".encode("utf-8", "surrogateescape"))
        with suppress(OSError):
            if path.is_symlink():
                digest.update(os.fsencode(path.readlink()))
                continue
            size = path.stat().st_size
            digest.update(f"{size}\0".encode())
            if number < MAX_DIGESTED and path.is_file():
                with path.open("rb") as file:
                    digest.update(file.read(DIGESTED_BYTES))
    return digest.hexdigest()


def find_changes(git: Git, head: str, commit: str) -> tuple[Change, ...]:
    """List what `commit` changed since its merge base with `head`."""
    options = ("--raw", "--no-renames", "--no-ext-diff", "--no-abbrev", "-z")
    fields = git.run("diff", *options, f"{head}...{commit}", "--").text.split("\0")
    changes: list[Change] = []
    for about, path in zip(fields[::2], fields[1::2], strict=False):
        old_mode, new_mode, old, new, _ = about.removeprefix(":").split(" ")
        name = path.rpartition("/")[2]
        sides = [
            Entry(mode, name, oid) if mode != NO_MODE else None for mode, oid in ((old_mode, old), (new_mode, new))
        ]
        changes.append(Change(path, *sides))
    return tuple(changes)


@dataclass(frozen=True, slots=True)
class Line:
    """The first-parent history between two commits: its `commits` and their `subjects`, newest first.

    `is_plain` means that it was followed to its start and contains no merge, so that a diff of its ends is exactly the
    work done on it.
    """

    commits: tuple[str, ...]
    subjects: tuple[str, ...]
    is_plain: bool


def read_line(objects: Objects, since: str, commit: str) -> Line:
    """Follow first parents from `commit` back to `since`, at most `MAX_LINE` commits, without starting git."""
    commits: list[str] = []
    subjects: list[str] = []
    is_plain = True
    while commit != since and len(subjects) < MAX_LINE:
        commits.append(commit)
        found = read_commit(objects, commit)
        subjects.append(found.subject)
        is_plain = is_plain and len(found.parents) == 1
        if not found.parents:
            break
        commit = found.parents[0]
    return Line(tuple(commits), tuple(subjects), is_plain and commit == since)


def read_shortstat(git: Git, base: str) -> str:
    """Return the worktree's changes against `base`, committed or not, as `3 files +40 -2`; "" if there are none."""
    return write_shortstat(git.text("diff", *SHORT_STAT, base, "--"))


def write_shortstat(output: str) -> str:
    """Return what git printed with `SHORT_STAT`, shorter: `3 files +40 -2`; "" if there is no change."""
    found = re.findall(r"(\d+) (file|insertion|deletion)", output)
    counts = {what: count for count, what in found}
    if not counts:
        return ""
    files = f"{counts['file']} file{'s' * (counts['file'] != '1')}"
    return f"{files} +{counts.get('insertion', '0')} -{counts.get('deletion', '0')}"


def list_changed_since(git: Git, commit: str) -> frozenset[str]:
    """List the tracked files of the worktree that differ from `commit`, committed or not."""
    options = ("--name-only", "--no-renames", "--no-ext-diff", "-z")
    return frozenset(filter(None, git.run("diff", *options, commit, "--").text.split("\0")))


def count_changed_lines(git: Git, head: str, commit: str) -> int:
    """How many lines `commit` adds and removes since its merge base with `head`; binary files have none.

    0 if they have no common history, as after the target was rewritten; landing says what to do about that.
    """
    options = ("--numstat", "--no-renames", "--no-ext-diff", "--no-textconv", "-z")
    if not (base := find_merge_base(git, head, commit)):
        return 0
    rows = git.run("diff", *options, base, commit, "--").text.split("\0")
    counts = (count for row in rows for count in row.split("\t")[:2])
    return sum(int(count) for count in counts if count.isdecimal())


def read_diffstat(git: Git, merge: str) -> str:
    """Return git's diffstat of `merge` against its first parent."""
    stat = f"--stat={STAT_WIDTH},,{STAT_FILES}"
    return git.text("diff", stat, "--no-renames", "--no-ext-diff", f"{merge}^1", merge, "--")
