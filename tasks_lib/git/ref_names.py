"""How names go to git, so that no tag, branch, remote or file that is called the same is taken instead.

- A ref goes by its full name (`branch_ref`), and `Git.resolve` and `Git.follow` read exactly that one. Everywhere else
  git also tries `refs/<name>`, `refs/tags/<name>` and more: `main` is a tag before it is a branch, and
  `refs/heads/gone` is the branch that somebody called `refs/heads/gone`.
- A commit goes by its whole id. Where git takes a branch or a tag as well (checkout, `worktree add`, a push), it takes
  one that is called by those digits before the object: write `commit_only(id)` there.
- After revisions comes `--`, which `Git.run` adds, or git would ask whether a file is meant.
- What git says is read from full refs: where a tag is called main, the short form of the branch is `heads/main`.

`tests/git/test_ambiguous_names.py` keeps the words that break these rules out of the sources.
"""

import re
from collections.abc import Collection, Iterable

HEADS = "refs/heads/"
_NAMED_BY_ID = re.compile(r"refs/(?:heads|tags)/[0-9a-f]{40}(?:[0-9a-f]{24})?")
_BEFORE_BRANCHES = ("refs/", "refs/tags/")
"""Where git looks for a name before it looks among the branches."""


def branch_ref(branch: str) -> str:
    """The full ref of a branch."""
    return f"{HEADS}{branch}"


def commit_only(commit: str) -> str:
    """`commit`, an id, as a word that is never the name of a ref."""
    return f"{commit}^0"


def find_ambiguous(refs: Iterable[str], names: Collection[str]) -> list[str]:
    """Those of `refs` that git may take for HEAD, one of the branches `names`, or a commit, where a person writes that
    as usual."""
    hidden = {f"{place}{name}" for name in (*names, "HEAD") for place in _BEFORE_BRANCHES} | {branch_ref("HEAD")}
    return sorted(ref for ref in refs if ref in hidden or _NAMED_BY_ID.fullmatch(ref))
