"""Fast-forwards the local target branch to the head, only as git accepts it; anything in the way makes it wait."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import InputError
from tasks_lib.git.commits.merge_tree import find_merge_base
from tasks_lib.git.publish.checkout_fast_forward import IN_PROGRESS, fast_forward, read_reason
from tasks_lib.git.publish.interrupted_fast_forward import (
    EVERY_STATUS,
    Move,
    has_interrupted_move,
    remembered,
    repair_move,
)
from tasks_lib.git.runner import Git

_BUSY_BRANCH = ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")
"""Files that name the branch to which a rebase or bisect returns; HEAD is detached meanwhile."""


@dataclass(frozen=True, slots=True)
class Published:
    """The target is now at `commit`."""

    commit: str


@dataclass(frozen=True, slots=True)
class Pending:
    """The target stays where it is because of `reason`; it is safe to try again later."""

    reason: str


@dataclass(frozen=True, slots=True)
class AlreadyThere:
    """The target already contained the head."""


@dataclass(frozen=True, slots=True)
class _Checkout:
    path: Path
    branch: str


def publish(
    git: Git, target: str, head: str, lock: AbstractContextManager[object] | None = None
) -> Published | Pending | AlreadyThere:
    """Fast-forward the branch `target` to the commit `head`.

    A checked-out branch is moved only through its checkout, where git refuses if a changed, untracked or ignored file
    is in the way; nothing is stashed or reset. `lock` is held while the worktrees are listed, because listing fails if
    one is added at the same moment. Raises InputError if the branch does not exist.
    """
    common_dir = git.layout.common_dir
    if has_interrupted_move(common_dir) and (line := repair_move(common_dir)) and has_interrupted_move(common_dir):
        return _wait(line)
    ref, base = git.locate(f"refs/heads/{target}")
    if base is None:
        raise InputError([f'The target branch "{target}" does not exist; create it, or set `target` to another.'])
    shared = base if base == head else find_merge_base(git, base, head)
    if shared == head:
        return AlreadyThere()
    if shared != base:
        return Pending(f'"{target}" has moved to {base[:10]}, which the head does not contain yet.')
    with lock or nullcontext():
        checkouts = _list_checkouts(git)
    if reason := _find_busy(common_dir, ref):
        return _wait(f'"{target}" {reason}; publishing waits until that is done.')
    holders = [checkout for checkout in checkouts if checkout.branch == ref]
    if not holders:
        return _move_ref(git, common_dir, Move(ref, base, head, str(common_dir)))
    if gone := [str(holder.path) for holder in holders if not os.path.lexists(holder.path)]:
        return _wait(
            f'"{target}" is checked out in {", ".join(gone)}, which does not exist; unless it is on a disk that '
            "you will mount again, run `git worktree prune`."
        )
    if len(holders) > 1:
        places = ", ".join(str(holder.path) for holder in holders)
        return _wait(f'"{target}" is checked out more than once ({places}); switch all but one to another branch.')
    reason = fast_forward(holders[0].path, common_dir, ref, base, head)
    return _wait(reason) if reason else Published(head)


def _wait(reason: str) -> Pending:
    # A path may contain a newline; the reason must stay on one line.
    return Pending(reason.replace("\n", "\\n"))


def _move_ref(git: Git, common_dir: Path, move: Move) -> Published | Pending:
    command = ("update-ref", "-m", "coordinator: publish", move.ref, move.head, move.base)
    with remembered(common_dir, move):
        result = git.run(*command, accept=EVERY_STATUS)
        if result.status < 0:
            repair_move(common_dir)
    return Published(move.head) if result.status == 0 else Pending(read_reason(result.stderr))


def _list_checkouts(git: Git) -> list[_Checkout]:
    """Every working tree of the repository, with the full ref of its branch ("" for a detached HEAD)."""
    checkouts: list[_Checkout] = []
    listed = git.run("worktree", "list", "--porcelain", "-z").stdout.decode("utf-8", "surrogateescape")
    for block in listed.split("\0\0"):
        fields = {name: value for name, _, value in (line.partition(" ") for line in block.split("\0"))}
        if "worktree" in fields and "bare" not in fields:
            path = Path(fields["worktree"]) if checkouts else _find_main(git, Path(fields["worktree"]))
            checkouts.append(_Checkout(path, fields.get("branch", "")))
    return checkouts


def _find_main(git: Git, listed: Path) -> Path:
    """The main working tree. Git lists its git directory instead if that is not its `.git`, as in a submodule."""
    if (listed / ".git").exists():
        return listed
    found = git.run("rev-parse", "--show-toplevel", accept=(0, 128))
    return Path(found.text) if found.status == 0 else listed


def _find_busy(common_dir: Path, ref: str) -> str | None:
    """The operation in progress on the branch `ref` in any working tree, where HEAD is detached meanwhile."""
    for git_dir in _list_git_dirs(common_dir):
        for name in _BUSY_BRANCH:
            if _read_line(git_dir / name) in (ref, ref.removeprefix("refs/heads/")):
                what = IN_PROGRESS["BISECT_LOG" if name == "BISECT_START" else name.partition("/")[0]]
                return f"is in the middle of {what} ({_find_place(git_dir)})"
        # `rebase --update-refs` lists other branches that it will move: for each a ref and two ids, one per line.
        if ref in _read_lines(git_dir / "rebase-merge" / "update-refs"):
            return f"is to be moved by a rebase ({_find_place(git_dir)})"
    return None


def _list_git_dirs(common_dir: Path) -> Iterator[Path]:
    yield common_dir
    worktrees = common_dir / "worktrees"
    if worktrees.is_dir():
        yield from sorted(worktrees.iterdir())


def _find_place(git_dir: Path) -> Path:
    place = _read_line(git_dir / "gitdir")
    return Path(place).parent if place else git_dir.parent if git_dir.name == ".git" else git_dir


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "surrogateescape").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read_line(path: Path) -> str:
    lines = _read_lines(path)
    return lines[0].strip() if lines else ""
