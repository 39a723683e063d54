"""Distinguishes agents' stashes from the user's in the shared stash list, and removes an agent's from it."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.git.repository import Repository

STASH = "refs/stash"
_MAX_LOG_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Stash:
    """An entry of the stash list: its `commit`, creation time (seconds since the epoch) and reflog message `said`.

    `branch` is the branch that it was made on, "" for none.
    """

    commit: str
    seconds: int
    said: str

    @property
    def branch(self) -> str:
        for start in ("WIP on ", "On "):
            if self.said.startswith(start):
                return self.said.removeprefix(start).partition(": ")[0]
        return ""


def list_stashes(common_dir: Path) -> list[Stash]:
    """List the stashes in git's order, newest first; read from the reflog, since a command costs more."""
    return [Stash(*row) for row in reversed(_read_log(common_dir / "logs" / STASH))]


def find_own_stashes(repository: Repository, branch: str, others: Collection[str]) -> list[tuple[int, Stash]]:
    """Find stashes made on a node's `branch`, or on those of the branches `others` that are newer, with their numbers.

    Only stashes made since `branch` was created: since then it can have been checked out only in the node's own
    worktree, so the user did not make them.
    """
    common = repository.common_dir
    began = _find_beginning(common, branch)
    if began is None or not (stashes := list_stashes(common)):
        return []
    own = {branch, *(name for name in others if (_find_beginning(common, name) or 0) >= began)}
    return [(number, one) for number, one in enumerate(stashes) if one.branch in own and one.seconds >= began]


def take_out_stashes(
    repository: Repository,
    lock: Callable[[], AbstractContextManager[object]],
    branch: str,
    others: Collection[str],
    label: str,
) -> list[tuple[Stash, str]]:
    """Keep what `find_own_stashes` finds at refs, and drop it from the stash list; return each stash with its ref."""
    if not find_own_stashes(repository, branch, others):
        return []
    kept: list[tuple[Stash, str]] = []
    with lock():
        # Highest number first, so that the numbers of the others stay the same.
        for number, stash in reversed(find_own_stashes(repository, branch, others)):
            kept.append((stash, keep_commit(repository.git, label, stash.commit)))
            _drop(repository, number, stash)
    return kept


def _drop(repository: Repository, number: int, stash: Stash) -> None:
    git, common = repository.git, repository.common_dir
    before = list_stashes(common)
    if number >= len(before) or before[number] != stash:
        return  # Another process is changing the list; the stash is kept, and also stays in the list.
    deletion = ("reflog", "delete", "--updateref", "--rewrite", f"{STASH}@{{{number}}}")
    if git.run(*deletion, accept=range(256)).status != 0:
        return  # The list is locked; the stash is kept, and also stays in the list.
    left = list_stashes(common)
    if not left:
        git.run("update-ref", "-d", STASH, stash.commit, accept=(0, 1, 128))
    for one in before:
        if one != stash and one not in left:  # Our number had come to mean another stash, so restore that one.
            git.run("stash", "store", "--message", one.said, one.commit, accept=(0, 1, 128))


def _find_beginning(common_dir: Path, branch: str) -> int | None:
    """Return when `branch` was created according to its reflog, or None if it has none."""
    rows = _read_log(common_dir / "logs" / "refs" / "heads" / branch) if branch else []
    return rows[0][1] if rows else None


def _read_log(path: Path) -> list[tuple[str, int, str]]:
    """Parse a reflog, oldest entry first, as new commit, time and message; empty above `_MAX_LOG_BYTES`."""
    try:
        if path.stat().st_size > _MAX_LOG_BYTES:
            return []
        lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except OSError:
        return []
    rows: list[tuple[str, int, str]] = []
    for line in lines:
        who, _, said = line.partition("\t")
        seconds = who.rpartition("> ")[2].partition(" ")[0]
        if seconds.isdecimal():
            rows.append((who.split(" ")[1], int(seconds), said))
    return rows
