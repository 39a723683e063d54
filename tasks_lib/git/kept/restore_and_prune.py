"""Finds kept states, restores them as branches, and deletes old ones."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks_lib.errors import GitError, InputError
from tasks_lib.git.branches import create_branch
from tasks_lib.git.commits.commit import read_commits
from tasks_lib.git.kept.snapshots import KEPT_REFS, STAGED, Kept, list_kept
from tasks_lib.git.ref_names import branch_ref
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import HeldRunLock
from tasks_lib.naming import find_branch_fault, flatten
from tasks_lib.suggestions import suggest

STASHED = "index on "
"""The start of the subject of the commit in which `git stash` saves the index."""
_LEAST_DIGITS = 4
"""The minimum length of an abbreviated commit id, the same as git's."""


@dataclass(frozen=True, slots=True)
class Restored:
    """`kept` was restored as `branch`. `has_staged`: the staged content differs and is the commit's second parent."""

    kept: Kept
    branch: str
    has_staged: bool


def find_kept(repository: Repository, name: str) -> Kept:
    """Find the kept state by `name`: its ref, the end of the ref (`pay/1`), a task id, or a commit (4 digits or more).

    Raises InputError if there is none, or if there are several, which the message lists.
    """
    kept = list_kept(repository)
    short = name.removeprefix("refs/coordinator/").removeprefix("kept/")
    exact = [one for one in kept if one.ref == f"{KEPT_REFS}/{short}"]
    labelled = [one for one in kept if one.label == flatten(short)]
    is_commit = re.fullmatch(rf"[0-9a-f]{{{_LEAST_DIGITS},}}", name) is not None
    found = exact or labelled or [one for one in kept if is_commit and one.commit.startswith(name)]
    match found:
        case [one]:
            return one
        case []:
            known = {one.label for one in kept}
            hint = suggest(short, known) or ""
            raise InputError([f'no kept state is called "{name}"{hint or "."} `coordinator cleanup` lists them.'])
        case _:
            listed = ", ".join(f"{one.ref} ({one.date.astimezone():%Y-%m-%d %H:%M})" for one in found)
            raise InputError([f'"{name}" matches {len(found)} kept states; name one of them: {listed}'])


def restore(repository: Repository, kept: Kept, branch: str) -> Restored:
    """Create `branch` at the kept state. Raises InputError if it already exists or cannot be created."""
    fault = find_branch_fault(branch)
    if fault or not repository.git.succeeds("check-ref-format", branch_ref(branch)):
        why = f", because {fault.replace('git reads', 'git reads it')}" if fault else ""
        raise InputError([f'"{branch}" cannot be a branch{why}; give another name with `--to`'])
    try:
        is_made = create_branch(repository, branch, kept.commit)
    except GitError as error:
        raise InputError([f'"{branch}" cannot be created: {error.stderr}; give another name with `--to`']) from error
    if not is_made:
        raise InputError([f'the branch "{branch}" already exists; give another name with `--to`'])
    (commit,) = read_commits(repository.git, [kept.commit])
    staged = read_commits(repository.git, commit.parents[1:2])
    return Restored(kept, branch, any(one.subject.startswith((STAGED, STASHED)) for one in staged))


def find_old(repository: Repository, days: float, now: datetime) -> list[Kept]:
    """List the states kept more than `days` before `now` (timezone-aware), sorted by label and number."""
    limit = now - timedelta(days=days)
    return [one for one in list_kept(repository) if one.date < limit]


def delete_kept(repository: Repository, kept: Kept, lock: HeldRunLock) -> bool:
    """Delete the ref of a kept state; return False if the ref has changed since it was listed."""
    done = repository.git.run("update-ref", "--no-deref", "-d", kept.ref, kept.commit, accept=(0, 1, 128))
    return done.status == 0
