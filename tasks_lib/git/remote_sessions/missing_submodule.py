"""Explains a `setup` that cannot fetch a submodule, because a session elsewhere committed there and did not push."""

import re
from pathlib import Path

from tasks_lib.git.kept.submodules import SUBMODULE_MODE
from tasks_lib.git.ref_names import commit_only
from tasks_lib.git.runner import Git

KEPT = "refs/coordinator/kept"
_MISSING = re.compile(r"not our ref ([0-9a-f]{40,64})|did not contain ([0-9a-f]{40,64})")


def explain_missing(worktree: Git, copy: Path, output: str) -> str:
    """Say what is missing, where it may be and what to do, if `output` of git says so of a submodule; else "".

    `worktree` is of the bare repository `copy`, at whose refs sessions here keep commits that they made in submodules.
    """
    missing = {found for match in _MISSING.finditer(output) if (found := match[1] or match[2])}
    rows = worktree.text("ls-tree", "-r", "-z", "HEAD").split("\0") if missing else []
    links = [row.partition("\t") for row in rows if row.startswith(SUBMODULE_MODE)]
    return "\n".join(_explain(copy, path, oid) for about, _, path in links if (oid := about.split(" ")[2]) in missing)


def _explain(copy: Path, path: str, oid: str) -> str:
    refs = Git(copy).run(
        "for-each-ref", "--format=%(refname)", f"--contains={commit_only(oid)}", KEPT, accept=(0, 1, 129)
    )
    if ref := refs.text.partition("\n")[0]:
        where = f"It is kept here at {ref} of {copy}: `git -C {copy} push URL-OF-THE-SUBMODULE {oid}:refs/heads/NAME`"
    else:
        where = f"The spoke where that session ran has it at a ref below {KEPT}/ of its copy: push it from there"
    what = f"The branch points the submodule {path} to {oid[:10]}, which an earlier session committed and did not push."
    return f"{what} {where}, or point the branch to a commit that the submodule's remote has."
