"""Lists refs by their full names, and branches with the worktrees that have them checked out."""

from collections.abc import Collection

from tasks_lib.git.ref_names import HEADS
from tasks_lib.git.runner import Git


def list_refs(git: Git, prefix: str = "refs") -> dict[str, str]:
    """Map each full ref below `prefix` to its object id, without reading any object."""
    rows = git.text("for-each-ref", "--format=%(refname) %(objectname)", prefix).splitlines()
    return {name: oid for name, _, oid in (row.rpartition(" ") for row in rows)}


def list_ref_types(git: Git, prefix: str) -> list[tuple[str, str, str]]:
    """List each full ref below `prefix` with its object id and object type (`commit`, `tag` and so on)."""
    rows = git.text("for-each-ref", "--format=%(refname) %(objectname) %(objecttype)", prefix).splitlines()
    return [(name, oid, kind) for name, oid, kind in (row.split(" ") for row in rows)]


def list_branches(git: Git) -> dict[str, str]:
    """Map each branch to its commit."""
    return {name.removeprefix(HEADS): oid for name, oid in list_refs(git, "refs/heads").items()}


def list_branch_checkouts(git: Git) -> dict[str, str]:
    """Map each branch to the worktree that has it checked out, or to ""."""
    # Not split by line: a path may contain a newline.
    fields = git.text("for-each-ref", "--format=%(refname)%00%(worktreepath)%00", "refs/heads").split("\0")
    return {ref.strip("\n").removeprefix(HEADS): place for ref, place in zip(fields[::2], fields[1::2], strict=False)}


def list_merged_branches(git: Git, tip: str, freed: Collection[str] = ()) -> dict[str, str]:
    """Map the branches that are merged into the commit `tip` and not checked out anywhere to their commits.

    Branches in `freed` are listed even if git still has a worktree for them.
    """
    # Only whether it is checked out, not where: a path may contain a newline.
    shape = "--format=%(refname)%00%(objectname)%00%(if)%(worktreepath)%(then)taken%(end)"
    rows = git.text("for-each-ref", shape, f"--merged={tip}", "refs/heads").split("\n")
    fields = (row.removeprefix(HEADS).split("\0") for row in rows if row)
    return {branch: commit for branch, commit, taken in fields if not taken or branch in freed}
