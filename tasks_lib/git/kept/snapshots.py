"""Keeps the state of a worktree, including uncommitted and untracked files, at a ref before it is deleted."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tasks_lib.git.kept.embedded_repositories import read_embedded
from tasks_lib.git.repository import COORDINATOR_IDENTITY, Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.worktree_admin import Worktree, has_hidden_files
from tasks_lib.moments import LAST_SECOND, find_moment
from tasks_lib.naming import flatten

KEPT_REFS = "refs/coordinator/kept"
STAGED = "Staged in "
"""The start of the subject of a commit of what was staged in a worktree."""
INDEX_PREFIX = "coordinator-index-"
"""The prefix of the temporary directory, in a worktree's git directory, for a copy of its index."""
_MAX_TRIES = 100


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept state: `date` (aware) is when it was last kept; `label` is what it belongs to, with `-` for `/`."""

    ref: str
    commit: str
    date: datetime
    label: str


def keep_state(
    worktree: Worktree, label: str, run: str, *, exclude: Sequence[str] = (), landed: str | None = None
) -> str | None:
    """Keep a worktree's head and its uncommitted and untracked files as a commit, and return its ref.

    The ref is `refs/coordinator/kept/<label, / as ->/<n>`, which is created and never moved. The commit's tree is the
    working tree without ignored files and the paths `exclude`. Its first parent is the head; a second one contains the
    staged state, if that differs from both the head and the tree; further ones are the commits of repositories inside
    the worktree, whose files are in the tree. Returns None if nothing would be lost: the tree is the head's, and
    `landed` contains the head. A state that is already kept gets no second ref. The worktree and its index are not
    changed.
    """
    git, head = worktree.git, worktree.git.resolve("HEAD")
    tree, parents, is_clean = _describe_state(worktree, head, label, exclude)
    if is_clean and head and landed and git.succeeds("merge-base", "--is-ancestor", head, landed):
        return None
    return _make_ref(git, flatten(label), tree, parents, f"Kept: {label}\n\nRun: {run}\n")


def commit_uncommitted(worktree: Worktree, label: str, *, exclude: Sequence[str] = ()) -> str:
    """Commit a worktree's uncommitted and untracked files, as `keep_state` does, without a ref; return the commit.

    Returns "" if the worktree has none. The worktree and its index are not changed.
    """
    head = worktree.git.resolve("HEAD")
    tree, parents, is_clean = _describe_state(worktree, head, label, exclude)
    return "" if is_clean else _commit(worktree.git, tree, parents, f"Uncommitted: {label}\n")


def _describe_state(
    worktree: Worktree, head: str | None, label: str, exclude: Sequence[str]
) -> tuple[str, list[str], bool]:
    """Return the tree and the parents of a commit of a worktree's state, and whether it adds nothing to `head`."""
    git = worktree.git
    staged, tree, inner = _write_trees(worktree, head, exclude)
    head_tree = git.text("rev-parse", f"{head}^{{tree}}") if head else ""
    has_staged = staged not in (None, head_tree, tree)
    # If an agent is on an orphan branch, there is no head, and so no parent.
    parents = [head] if head else []
    if staged and has_staged:
        parents.append(_commit(git, staged, parents, f"{STAGED}{label}\n"))
    parents += [commit for commit in inner if commit not in parents]
    return tree, parents, tree == head_tree and not has_staged and not inner


def keep_commit(git: Git, label: str, commit: str) -> str:
    """Keep `commit` itself at a ref `refs/coordinator/kept/<label, / as ->/<n>` and return the ref.

    If the label already has a ref to it, that ref is renewed and returned.
    """
    place = f"{KEPT_REFS}/{flatten(label)}"
    rows = [
        line.split("\0") for line in git.text("for-each-ref", "--format=%(refname)%00%(objectname)", place).splitlines()
    ]
    for ref, kept in rows:
        if kept == commit:
            return _renew(git, ref)
    return _create_ref(git, place, max((_number(ref) for ref, _ in rows), default=0) + 1, commit)


def list_kept(repository: Repository) -> list[Kept]:
    """List all kept states, sorted by label and number; one without a date counts as new, so nothing prunes it."""
    form = "--format=%(refname)%00%(objectname)%00%(committerdate:unix)"
    rows = (line.split("\0") for line in repository.git.text("for-each-ref", form, KEPT_REFS).splitlines())
    logs = repository.common_dir / "logs"
    kept = [
        Kept(ref, commit, _read_date(logs / ref) or find_moment(float(date or LAST_SECOND)), ref.split("/")[3])
        for ref, commit, date in rows
    ]
    return sorted(kept, key=lambda one: (one.label, _number(one.ref)))


def _read_date(log: Path) -> datetime | None:
    return find_moment(log.stat().st_mtime) if log.exists() else None


def _number(ref: str) -> int:
    last = ref.rpartition("/")[2]
    return int(last) if last.isdecimal() else 0


def _write_trees(worktree: Worktree, head: str | None, exclude: Sequence[str]) -> tuple[str | None, str, list[str]]:
    """Write the trees of the index (None during a conflict) and of the working tree, using a copy of the index.

    Returns both, and the tips of the repositories inside the working tree.
    """
    with tempfile.TemporaryDirectory(prefix=INDEX_PREFIX, dir=worktree.git_dir) as directory:
        index = Path(directory) / "index"
        place = {"GIT_INDEX_FILE": str(index)}
        git, real = worktree.git, worktree.git_dir / "index"
        if real.exists():
            shutil.copy2(real, index)
        staged = git.run("write-tree", accept=(0, 128), environment=place)
        hash_bytes = 32 if git.text("rev-parse", "--show-object-format") == "sha256" else 20
        if not real.exists() or has_hidden_files(index, hash_bytes):
            # A copy would hide the same files from `add`; a new index compares every file.
            index.unlink(missing_ok=True)
            git.run("read-tree", head or "--empty", environment=place)
        inner = _add_everything(worktree, place, exclude)
        tree = git.run("write-tree", environment=place).text
        return staged.text if staged.status == 0 and real.exists() else None, tree, inner


def _add_everything(worktree: Worktree, place: Mapping[str, str], exclude: Sequence[str]) -> list[str]:
    """Add the working tree to the index `place`; return the tips of repositories inside it, now fetched into ours."""
    git = worktree.git
    others = git.run("ls-files", "-z", "--others", "--exclude-standard", environment=place).text.split("\0")
    # Git lists an embedded repository as one name with a slash, and would keep none of its files.
    nested = [name for name in others if name.endswith("/")]
    outside = [f":(exclude,top,literal){name.rstrip('/')}" for name in (*exclude, *nested)]
    # Exit status 1 means that a file could not be read; the others are still added.
    git.run("add", "-A", "--ignore-errors", "--", ":(top)", *outside, accept=(0, 1), environment=place)
    commits: list[str] = []
    for name in nested:
        if name.rstrip("/") not in {path.rstrip("/") for path in exclude}:
            rows, tips = read_embedded(worktree, name)
            text = os.fsencode("".join(rows))
            git.run("update-index", "--add", "-z", "--index-info", stdin=text, environment=place)
            commits += tips
    return commits


def _commit(git: Git, tree: str, parents: Sequence[str], message: str) -> str:
    words = [word for parent in parents for word in ("-p", parent)]
    return git.run("commit-tree", tree, *words, stdin=message.encode(), environment=COORDINATOR_IDENTITY).text


def _make_ref(git: Git, label: str, tree: str, parents: Sequence[str], message: str) -> str:
    form = "--format=%(refname)%00%(tree)%00%(parent)"
    rows = [line.split("\0") for line in git.text("for-each-ref", form, f"{KEPT_REFS}/{label}").splitlines()]
    for ref, kept_tree, kept_parents in rows:
        if kept_tree == tree and kept_parents.split() == list(parents):
            return _renew(git, ref)
    commit = _commit(git, tree, parents, message)
    return _create_ref(git, f"{KEPT_REFS}/{label}", max((_number(ref) for ref, _, _ in rows), default=0) + 1, commit)


def _create_ref(git: Git, place: str, first: int, commit: str) -> str:
    """Create a new ref `<place>/<n>`, with the lowest free n from `first` on."""
    for number in range(first, first + _MAX_TRIES):
        ref = f"{place}/{number}"
        # With a reflog, whose file time is the date of keeping: the kept commit itself may be old.
        if git.run("update-ref", "--create-reflog", ref, commit, "", accept=(0, 1, 128)).status == 0:
            return ref
    git.run("update-ref", "--create-reflog", f"{place}/{first + _MAX_TRIES}", commit, "")
    return f"{place}/{first + _MAX_TRIES}"


def _renew(git: Git, ref: str) -> str:
    """Reset the age of a kept state that has been kept again; return `ref`."""
    log = Path(git.directory, git.text("rev-parse", "--git-path", f"logs/{ref}"))
    if log.exists():
        os.utime(log)
    return ref
