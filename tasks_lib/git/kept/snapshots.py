"""Keeps the state of a worktree, uncommitted and untracked files too, at a ref of its own before it is deleted."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tasks_lib.git.kept.embedded_repositories import read_embedded
from tasks_lib.git.repository import COORDINATOR_IDENTITY, Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.worktree_admin import Worktree, has_hidden_files
from tasks_lib.naming import flatten

KEPT_REFS = "refs/coordinator/kept"
STAGED = "Staged in "
"""How the subject begins of a commit that holds what was staged in a worktree."""
INDEX_PREFIX = "coordinator-index-"
"""Of the directory in a worktree's git directory that holds a copy of its index for a moment."""
_MAX_TRIES = 100


@dataclass(frozen=True, slots=True)
class Kept:
    """A state that was kept: `date` is when it was last found worth keeping, aware; `label` says whose, `/` as `-`."""

    ref: str
    commit: str
    date: datetime
    label: str


def keep_state(
    worktree: Worktree, label: str, run: str, *, exclude: Sequence[str] = (), landed: str | None = None
) -> str | None:
    """Keep a worktree's head and its uncommitted and untracked files as a commit, and return its ref.

    The ref is `refs/coordinator/kept/<label, / as ->/<n>`, made and never moved. The commit's tree is the working
    tree without ignored files and the paths `exclude`; its first parent is the head, a second one holds what was
    staged, where that is neither, and further ones are the commits of repositories inside the worktree, whose files
    are in the tree. None when nothing would be lost: the tree is the head's, and `landed` contains
    the head. A state that is kept already gets no second ref. The worktree and its index are not touched.
    """
    git = worktree.git
    head = git.resolve("HEAD")
    staged, tree, inner = _write_trees(worktree, head, exclude)
    head_tree = git.text("rev-parse", f"{head}^{{tree}}") if head else ""
    has_staged = staged not in (None, head_tree, tree)
    is_clean = tree == head_tree and not has_staged and not inner
    if is_clean and head and landed and git.succeeds("merge-base", "--is-ancestor", head, landed):
        return None
    # On an orphan branch of an agent's there is no head, and so no parent.
    parents = [head] if head else []
    if staged and has_staged:
        parents.append(_commit(git, staged, parents, f"{STAGED}{label}\n"))
    parents += [commit for commit in inner if commit not in parents]
    return _make_ref(git, flatten(label), tree, parents, f"Kept: {label}\n\nRun: {run}\n")


def keep_commit(git: Git, label: str, commit: str) -> str:
    """Keep `commit` itself at a ref `refs/coordinator/kept/<label, / as ->/<n>`, and return that; it is kept once."""
    place = f"{KEPT_REFS}/{flatten(label)}"
    rows = [
        line.split("\0") for line in git.text("for-each-ref", "--format=%(refname)%00%(objectname)", place).splitlines()
    ]
    for ref, kept in rows:
        if kept == commit:
            return _renew(git, ref)
    return _create_ref(git, place, max((_number(ref) for ref, _ in rows), default=0) + 1, commit)


def list_kept(repository: Repository) -> list[Kept]:
    """Every state that was kept, by label and number."""
    form = "--format=%(refname)%00%(objectname)%00%(committerdate:iso-strict)"
    rows = (line.split("\0") for line in repository.git.text("for-each-ref", form, KEPT_REFS).splitlines())
    logs = repository.common_dir / "logs"
    kept = [
        Kept(ref, commit, _read_date(logs / ref) or datetime.fromisoformat(date), ref.split("/")[3])
        for ref, commit, date in rows
    ]
    return sorted(kept, key=lambda one: (one.label, _number(one.ref)))


def _read_date(log: Path) -> datetime | None:
    return datetime.fromtimestamp(log.stat().st_mtime, UTC) if log.exists() else None


def _number(ref: str) -> int:
    last = ref.rpartition("/")[2]
    return int(last) if last.isdecimal() else 0


def _write_trees(worktree: Worktree, head: str | None, exclude: Sequence[str]) -> tuple[str | None, str, list[str]]:
    """The trees of what is staged (None amid a conflict) and of the working tree, by way of a copy of the index.

    Third, the last commits of the repositories in the working tree.
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
            # A copy would hide the same files from `add`; one made anew compares every file.
            index.unlink(missing_ok=True)
            git.run("read-tree", head or "--empty", environment=place)
        inner = _add_everything(worktree, place, exclude)
        tree = git.run("write-tree", environment=place).text
        return staged.text if staged.status == 0 and real.exists() else None, tree, inner


def _add_everything(worktree: Worktree, place: Mapping[str, str], exclude: Sequence[str]) -> list[str]:
    """Add the working tree to the index `place`; returns the last commits of repositories in it, which are ours now."""
    git = worktree.git
    others = git.run("ls-files", "-z", "--others", "--exclude-standard", environment=place).text.split("\0")
    # Git lists a repository inside ours as one name with a slash, and would keep none of its files.
    nested = [name for name in others if name.endswith("/")]
    outside = [f":(exclude,top,literal){name.rstrip('/')}" for name in (*exclude, *nested)]
    # Exit 1 is a file that could not be read; the others are kept all the same.
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
    """Make a ref `<place>/<n>` that is not there yet, with the lowest n from `first` on."""
    for number in range(first, first + _MAX_TRIES):
        ref = f"{place}/{number}"
        # With a log, whose file says since when: what is kept may be an old commit.
        if git.run("update-ref", "--create-reflog", ref, commit, "", accept=(0, 1, 128)).status == 0:
            return ref
    git.run("update-ref", "--create-reflog", f"{place}/{first + _MAX_TRIES}", commit, "")
    return f"{place}/{first + _MAX_TRIES}"


def _renew(git: Git, ref: str) -> str:
    """What is found worth keeping once more is as old as that."""
    log = Path(git.directory, git.text("rev-parse", "--git-path", f"logs/{ref}"))
    if log.exists():
        os.utime(log)
    return ref
