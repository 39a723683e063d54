"""Makes refs and files with misleading names: everything git could mistake for a branch, a commit or HEAD, at once."""

from collections.abc import Collection, Mapping

from tasks_lib.git.runner import Git

TAGS = (
    *("HEAD", "FETCH_HEAD", "ORIG_HEAD", "MERGE_HEAD", "stash", "main", "heads/main", "refs/heads/main", "feat/a"),
    *("refs/heads/feat/a", "heads/feat/b", "origin/main", "refs/remotes/origin/main", "remotes/origin/main"),
    *("coordinator/queue/main", "refs/coordinator/queue/main", "--all", "-b", "@", "ｍain", "deadbeef"),
)
BRANCHES = (
    *("HEAD", "FETCH_HEAD", "-x", "heads/main", "refs/heads/main", "refs/heads/feat/a", "refs/heads/feat/b"),
    *("tags/main", "origin/main", "remotes/origin/main", "refs/remotes/origin/main", "cafe"),
    "refs/coordinator/queue/main",
)
OTHERS = ("HEAD", "main", "feat/a", "remotes/main/HEAD", "remotes/HEAD/HEAD", "remotes/feat/a/HEAD")
FILES: Mapping[str, str] = dict.fromkeys(("HEAD", "main", "refs/heads/main", "origin/main", "feat/a"), "a file\n")
"""Files named like revisions: `git log main` then asks whether the file or the revision is meant."""


def create_ambiguous_names(git: Git, commit: str, ids: Collection[str] = ()) -> dict[str, str]:
    """Create all of them at `commit`, plus a branch and a tag named after each of `ids`; return every ref."""
    short = {one[:12] for one in ids}
    made = [f"refs/tags/{name}" for name in (*TAGS, *ids, *short)]
    made += [f"refs/heads/{name}" for name in (*BRANCHES, *ids)]
    made += [f"refs/{name}" for name in OTHERS]
    lines = "".join(f"create {ref} {commit}\n" for ref in made)
    git.run("update-ref", "--stdin", stdin=lines.encode())
    git.run("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/gone")
    return list_refs(git)


def list_refs(git: Git) -> dict[str, str]:
    """Map every ref to its object id."""
    rows = git.text("for-each-ref", "--format=%(objectname) %(refname)").splitlines()
    return {ref: oid for oid, _, ref in (row.partition(" ") for row in rows)}
