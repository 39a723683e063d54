"""Fast-forwards the user's checkout as git accepts it, and not at all if that would lose any of the user's data."""

import os
from collections.abc import Sequence
from pathlib import Path

from tasks_lib.git.commits.merge_tree import is_ancestor
from tasks_lib.git.publish.interrupted_fast_forward import (
    EVERY_STATUS,
    Change,
    Move,
    exists,
    record_before,
    remembered,
    repair_move,
    restore_checkout,
)
from tasks_lib.git.ref_names import commit_only
from tasks_lib.git.runner import Git
from tasks_lib.naming import SOME
from tasks_lib.text import cut, list_some

_REASON_CHARS = 600
IN_PROGRESS = {
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "sequencer/todo": "a series of cherry-picks or reverts",
    "rebase-merge": "a rebase",
    "rebase-apply/applying": "`git am`",
    "rebase-apply": "a rebase",
    "BISECT_LOG": "a bisect",
}
"""Files in a worktree's git directory that show an operation in progress."""
# Wait for a ref that another program has locked; a merge writes the files before it moves the branch.
REF_PATIENCE = ("-c", "core.filesRefLockTimeout=3000")
FAST_FORWARD = (
    *("merge", "--ff-only", "--no-overwrite-ignore", "--no-autostash", "--no-squash", "--no-stat"),
    *("--no-verify-signatures", "--no-progress"),
)
_UNMARKED = {"COORDINATOR_REPOSITORY": ""}
"""Lets git finish after coordinator is killed; if marked, the next run would end it while it is writing files."""


def fast_forward(path: Path, common_dir: Path, ref: str, base: str, head: str) -> str:
    """Move the checkout at `path`, whose branch `ref` is at `base`, to `head`; return why it waits, "" if it moved.

    `common_dir` is the common git directory of the repository. If it waits, files, index and refs are as before.
    Raises GitError if git fails.
    """
    git = Git(path)
    git_dir = _find_git_dir(git, common_dir) if path.is_dir() else None
    if git_dir is None:
        return f"its checkout {path} no longer exists; `git worktree prune` removes it from the list."
    # The list may be outdated by now, and `merge` moves the branch that is checked out when it runs.
    if (found := git.follow("HEAD")) != ref:
        return f"the checkout {path} switched from {ref} to {found} just now; the run tries again."
    if reason := _find_hindrance(path, git_dir, common_dir, ref):
        return reason
    before = record_before(git, git_dir, base, head)
    if reason := _find_loss(git, path, before.changes, head):
        return reason
    original = None if before.original is None else before.original.decode()
    with remembered(common_dir, Move(ref, base, head, str(git_dir), str(path), original)):
        result = git.run(*REF_PATIENCE, *FAST_FORWARD, commit_only(head), accept=EVERY_STATUS, environment=_UNMARKED)
        if result.status != 0:
            reason = f"git refused in {path}: {read_reason(result.stderr)}"
            if result.status < 0:
                repair_move(common_dir)  # Git was killed and left its locks.
            left = restore_checkout(git, git_dir, before, base, head) if git.resolve(ref) != head else ""
            return f"{reason} {left}" if left else reason
    tip = git.resolve(ref)
    if tip != head and not (tip and is_ancestor(git, head, tip)):
        return f"the checkout {path} switched to {git.follow('HEAD')} just now, and {ref} did not move."
    return ""


def read_reason(stderr: str) -> str:
    """Git's error message up to its advice, on one line."""
    kept: list[str] = []
    for line in stderr.splitlines():
        words = line.strip()
        if words.startswith(("Please ", "Aborting", "hint:", "Another git process")):
            break
        kept.append(words.removeprefix("error: ").removeprefix("fatal: "))
    said = " ".join(word for word in kept if word) or stderr.strip() or "it gave no reason"
    return cut(said, _REASON_CHARS)


def _find_git_dir(git: Git, common_dir: Path) -> Path | None:
    """Return the git directory of the checkout that `git` runs in; None unless it belongs to `common_dir`."""
    found = git.run("rev-parse", "--path-format=absolute", "--git-common-dir", "--git-dir", accept=(0, 128))
    places = found.text.split("\n")
    if found.status == 0 and len(places) != 2:  # A path has a line break in it.
        places = [git.text("rev-parse", "--path-format=absolute", word) for word in ("--git-common-dir", "--git-dir")]
    return Path(places[1]) if found.status == 0 and Path(places[0]).resolve() == common_dir else None


def _find_hindrance(path: Path, git_dir: Path, common_dir: Path, ref: str) -> str:
    for name, what in IN_PROGRESS.items():
        if (git_dir / name).exists():
            return f"the checkout {path} is in the middle of {what}; finish or abort it."
    for lock in (git_dir / "HEAD.lock", common_dir / f"{ref}.lock"):
        if lock.exists():
            return f"{lock} exists: a git command is running, or one was killed; in that case delete the file."
    return ""


# Checks of what a fast-forward would touch.


def _find_loss(git: Git, path: Path, changes: Sequence[Change], head: str) -> str:
    """Why a fast-forward that git accepts would do harm: it recreates a deleted file, or a filter fails midway."""
    written = [change.path for change in changes if change.new_mode != "000000"]
    missing = {c.path for c in changes if "000000" not in (c.old_mode, c.new_mode) and not exists(path / c.path)}
    if missing:
        found = git.run("diff-files", "--name-only", "-z", "--diff-filter=D").text.split("\0")
        if deleted := sorted(missing & set(found)):
            named = list_some(deleted, SOME)
            return f"{named} was deleted in {path} and would be written again; commit that, or restore it."
    for name in _list_filtered(git, written):
        tried = git.run("cat-file", "--filters", f"{head}:{name}", accept=EVERY_STATUS)
        if tried.status != 0:
            return f"a filter of {path} fails for {name}: {read_reason(tried.stderr)}"
    return ""


def _list_filtered(git: Git, paths: Sequence[str]) -> list[str]:
    """The paths whose content goes through a filter program that the user has configured."""
    if not git.succeeds("config", "--get-regexp", r"^filter\..*\.(smudge|process)$"):
        return []
    asked = os.fsencode("".join(f"{name}\0" for name in paths))
    fields = git.run("check-attr", "--stdin", "-z", "filter", stdin=asked).text.split("\0")
    return [
        name for name, value in zip(fields[::3], fields[2::3], strict=False) if value not in ("unspecified", "unset")
    ]
