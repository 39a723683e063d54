"""Finds commits reachable only from a worktree's administrative directory, and keeps them before it is removed."""

import re
from collections.abc import Iterator
from pathlib import Path

from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.git.repository import COORDINATOR_IDENTITY, Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.worktree_admin import Entry
from tasks_lib.moments import LAST_SECOND

RELEASED = "coordinator: released"
"""The HEAD reflog message of a pooled worktree that marks where its next use begins."""
_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_READABLE = re.compile(r"[0-9]{4}-")
_SPECIAL = (
    *("ORIG_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "MERGE_AUTOSTASH", "rebase-apply/autostash"),
    *("rebase-merge/autostash", "rebase-merge/orig-head", "rebase-merge/stopped-sha", "rebase-apply/orig-head"),
)
"""Files in which git records a commit while an operation is in progress."""
_LINEAR = ("commit:", "commit (initial)", "commit (merge)", "merge ", "cherry-pick", "revert", "branch: Created")
"""Starts of reflog messages for which the new commit descends from the old one."""
_REFS = ("--branches", "--tags", "--remotes", "--glob=refs/coordinator", "--glob=refs/stash")
_MOST = 1_000
"""How many commits are examined, the latest ones: agents make dozens."""


def keep_unreferenced(repository: Repository, admin: Path, branch: str, label: str, held: str = "") -> str | None:
    """Keep commits that an agent left unreferenced by amending, resetting, rebasing or on a detached HEAD.

    `admin` is the worktree's git directory, `branch` its branch ("" for none), `held` a commit that is kept elsewhere.
    Returns the single ref from which all the commits are reachable, or None if there are none. Runs git only if the
    reflogs show anything but commits on top of one another.
    """
    found = _list_noted(repository, admin, branch)
    if not found:
        return None
    lonely = _find_tips(repository.git, found, held)
    if not lonely:
        return None
    return keep_commit(repository.git, label, lonely[0] if len(lonely) == 1 else _join(repository.git, label, lonely))


def keep_dangling(repository: Repository, entry: Entry, label: str) -> str | None:
    """Keep the staged state and unreferenced commits of a worktree whose directory is gone; return a ref, if any."""
    git = repository.git
    head = git.resolve(entry.head.removeprefix("ref: "))
    place = {"GIT_INDEX_FILE": str(entry.admin / "index")}
    staged = git.run("write-tree", accept=(0, 128), environment=place) if (entry.admin / "index").exists() else None
    kept = None
    if head and staged and staged.status == 0 and staged.text != git.text("rev-parse", f"{head}^{{tree}}"):
        message = f"Staged in {label}, whose worktree is gone\n"
        kept = keep_commit(git, label, _commit(git, staged.text, [head], message))
    return keep_unreferenced(repository, entry.admin, entry.branch or "", label) or kept


def _list_noted(repository: Repository, admin: Path, branch: str) -> tuple[str, ...]:
    """List the commits that the administrative files name, latest first; none if HEAD's linear history has them all."""
    rows = _read_log(admin / "logs" / "HEAD")
    starts = [at for at, (_, _, said) in enumerate(rows) if said.startswith(RELEASED)]
    rows = rows[starts[-1] + 1 :] if starts else rows
    of_branch = _read_log(repository.common_dir / "logs" / "refs" / "heads" / branch) if branch else []
    special = [*_read_special(admin), *_read_refs(admin / "refs")]
    head = _read_text(admin / "HEAD")
    is_on_branch = head == f"ref: refs/heads/{branch}"
    line = {oid for row in rows for oid in row[:2]}
    if is_on_branch and line.issuperset(special) and _is_linear(rows[1:]) and _is_linear(of_branch):
        return ()
    named = [*special, *([] if head.startswith("ref: ") else [head])]
    named += [oid for row in reversed([*of_branch, *rows]) for oid in (row[1], row[0])]
    return tuple(dict.fromkeys(oid for oid in named if _OBJECT_ID.fullmatch(oid) and oid.strip("0")))[:_MOST]


def _is_linear(rows: list[tuple[str, str, str]]) -> bool:
    return all(old == new or said.startswith(_LINEAR) for old, new, said in rows)


def _read_log(path: Path) -> list[tuple[str, str, str]]:
    """Parse a reflog, oldest entry first, as old commit, new commit and message."""
    rows: list[tuple[str, str, str]] = []
    for line in _read_text(path).split("\n"):
        who, _, said = line.partition("\t")
        words = who.split(" ", 2)
        if len(words) == 3:
            rows.append((words[0], words[1], said))
    return rows


def _read_special(admin: Path) -> Iterator[str]:
    return (line.split(" ")[0].strip() for name in _SPECIAL for line in _read_text(admin / name).split("\n") if line)


def _read_refs(refs: Path) -> Iterator[str]:
    return (_read_text(path).strip() for path in sorted(refs.rglob("*")) if path.is_file())


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "surrogateescape").rstrip("\n")
    except OSError:
        return ""


def _find_tips(git: Git, commits: tuple[str, ...], held: str) -> tuple[str, ...]:
    """Return the tips among those of `commits` that are not reachable from any ref or from `held`."""
    wanted = "".join(f"{oid}\n" for oid in (*commits, *([f"^{held}"] if held else []))).encode()
    # With `--ignore-missing`, commits that were already garbage-collected cause no error.
    options = ("--parents", "--ignore-missing", "--topo-order")
    found = git.run("rev-list", *options, "--not", *_REFS, "--not", "--stdin", stdin=wanted)
    rows = [line.split(" ") for line in found.text.splitlines()]
    below = {parent for _, *parents in rows for parent in parents}
    return tuple(oid for oid, *_ in rows if oid not in below)


def _join(git: Git, label: str, commits: tuple[str, ...]) -> str:
    """Write one commit with all of `commits` as parents and the files of the first."""
    message = f"Kept: {label}, {len(commits)} lines of work that were left behind\n"
    return _commit(git, f"{commits[0]}^{{tree}}", commits, message)


def _commit(git: Git, tree: str, parents: tuple[str, ...] | list[str], message: str) -> str:
    words = [word for parent in parents for word in ("-p", parent)]
    # A fixed date: keeping the same state again creates the same commit, which is kept only once.
    date = git.text("log", "-n1", "--format=%cI", parents[0])
    # Git reads no year of five digits in that format, although a commit may have one.
    date = date if _READABLE.match(date) else f"@{LAST_SECOND} +0000"
    same = {**COORDINATOR_IDENTITY, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    return git.run("commit-tree", tree, *words, stdin=message.encode(), environment=same).text
