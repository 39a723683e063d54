"""Lists refs by their full names, and branches with where they are checked out."""

from collections.abc import Collection

from tasks_lib.git.ref_names import HEADS
from tasks_lib.git.runner import Git


def list_refs(git: Git, prefix: str = "refs") -> dict[str, str]:
    """The object of each full ref below `prefix`; no object is read."""
    rows = git.text("for-each-ref", "--format=%(refname) %(objectname)", prefix).splitlines()
    return {name: oid for name, _, oid in (row.rpartition(" ") for row in rows)}


def list_ref_types(git: Git, prefix: str) -> list[tuple[str, str, str]]:
    """Each full ref below `prefix`, its object, and what that is (`commit`, `tag` and so on)."""
    rows = git.text("for-each-ref", "--format=%(refname) %(objectname) %(objecttype)", prefix).splitlines()
    return [(name, oid, kind) for name, oid, kind in (row.split(" ") for row in rows)]


def list_branches(git: Git) -> dict[str, str]:
    """The commit of each branch."""
    return {name.removeprefix(HEADS): oid for name, oid in list_refs(git, "refs/heads").items()}


def list_branch_checkouts(git: Git) -> dict[str, str]:
    """The worktree that each branch is checked out in, "" if in none."""
    # Not line by line: a path may hold a newline.
    fields = git.text("for-each-ref", "--format=%(refname)%00%(worktreepath)%00", "refs/heads").split("\0")
    return {ref.strip("\n").removeprefix(HEADS): place for ref, place in zip(fields[::2], fields[1::2], strict=False)}


def list_merged_branches(git: Git, tip: str, freed: Collection[str] = ()) -> dict[str, str]:
    """The branches that the commit `tip` contains and that are checked out nowhere, with their commits.

    Those `freed` are listed even where git still knows a worktree of them.
    """
    # Whether and not where it is checked out: a path may hold a newline.
    shape = "--format=%(refname)%00%(objectname)%00%(if)%(worktreepath)%(then)taken%(end)"
    rows = git.text("for-each-ref", shape, f"--merged={tip}", "refs/heads").split("\n")
    fields = (row.removeprefix(HEADS).split("\0") for row in rows if row)
    return {branch: commit for branch, commit, taken in fields if not taken or branch in freed}
