"""Builds names to pass to git, so that it never uses a tag, branch, remote or file of the same name instead.

- Pass a ref by its full name (`branch_ref`); `Git.resolve` and `Git.follow` read exactly that ref. Everywhere else git
  also tries `refs/<name>`, `refs/tags/<name>` and more: `main` resolves to a tag before a branch, and
  `refs/heads/gone` to a branch that is literally named `refs/heads/gone`.
- Pass a commit by its full id. Where git also accepts a branch or a tag (checkout, `worktree add`, a push), it prefers
  one named with those digits to the object: use `commit_only(id)` there.
- End revisions with `--`, which `Git.run` adds; otherwise git refuses an argument that could also be a file.
- Parse full refs in git's output: if a tag is named main, the short form of the branch is `heads/main`.

`tests/git/test_ambiguous_names.py` checks that the sources contain no arguments that break these rules.
"""

import re
from collections.abc import Collection, Iterable

HEADS = "refs/heads/"
_NAMED_BY_ID = re.compile(r"refs/(?:heads|tags)/[0-9a-f]{40}(?:[0-9a-f]{24})?")
_BEFORE_BRANCHES = ("refs/", "refs/tags/")
"""The prefixes that git tries for a name before `refs/heads/`."""


def branch_ref(branch: str) -> str:
    """Return the full ref of a branch."""
    return f"{HEADS}{branch}"


def commit_only(commit: str) -> str:
    """Return the commit id `commit` as a revision that git cannot mistake for the name of a ref."""
    return f"{commit}^0"


def find_ambiguous(refs: Iterable[str], names: Collection[str]) -> list[str]:
    """Return those of `refs` that git may use instead of HEAD, one of the branches `names`, or a commit, when the user
    names these in the usual short form. Sorted."""
    hidden = {f"{place}{name}" for name in (*names, "HEAD") for place in _BEFORE_BRANCHES} | {branch_ref("HEAD")}
    return sorted(ref for ref in refs if ref in hidden or _NAMED_BY_ID.fullmatch(ref))
