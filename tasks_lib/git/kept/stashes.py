"""Tells the stashes that agents made from a person's, all of which are in one list, and takes an agent's out of it."""

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
    """One entry of the list: its `commit`, when it was made (seconds since the epoch), what git says of it, and the
    `branch` that it was made on, "" for none."""

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
    """The list as git numbers it, the newest first; read from its file, since a command for nothing costs more."""
    return [Stash(*row) for row in reversed(_read_log(common_dir / "logs" / STASH))]


def find_own_stashes(repository: Repository, branch: str, others: Collection[str]) -> list[tuple[int, Stash]]:
    """What was stashed on a node's `branch`, or on the branches `others` that were made since, with their numbers.

    Since `branch` was made it can have been checked out in the node's own worktree alone, so that no person made them.
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
    """Keep at refs, and take out of the list, what `find_own_stashes` finds; return each with its ref."""
    if not find_own_stashes(repository, branch, others):
        return []
    kept: list[tuple[Stash, str]] = []
    with lock():
        # The last first, so that the numbers of those before it stay.
        for number, stash in reversed(find_own_stashes(repository, branch, others)):
            kept.append((stash, keep_commit(repository.git, label, stash.commit)))
            _drop(repository, number, stash)
    return kept


def _drop(repository: Repository, number: int, stash: Stash) -> None:
    git, common = repository.git, repository.common_dir
    before = list_stashes(common)
    if number >= len(before) or before[number] != stash:
        return  # Somebody is at the list at this moment; it is kept, and stays there too.
    deletion = ("reflog", "delete", "--updateref", "--rewrite", f"{STASH}@{{{number}}}")
    if git.run(*deletion, accept=range(256)).status != 0:
        return  # The list is locked: it is kept, and stays there too.
    left = list_stashes(common)
    if not left:
        git.run("update-ref", "-d", STASH, stash.commit, accept=(0, 1, 128))
    for one in before:
        if one != stash and one not in left:  # Ours had become another's number.
            git.run("stash", "store", "--message", one.said, one.commit, accept=(0, 1, 128))


def _find_beginning(common_dir: Path, branch: str) -> int | None:
    """When `branch` was made, by git's log of it; None where there is none."""
    rows = _read_log(common_dir / "logs" / "refs" / "heads" / branch) if branch else []
    return rows[0][1] if rows else None


def _read_log(path: Path) -> list[tuple[str, int, str]]:
    """The rows of a log of a ref, oldest first: the new commit, when, and what was done."""
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
