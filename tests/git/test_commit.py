"""Parsing a commit object: parents, author and committer, time and message."""

from datetime import datetime

import pytest

from tasks_lib.errors import GitError
from tasks_lib.git.commits.commit import parse_commit, read_commit, read_commits, read_first_parents
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.repository import Repository

SIGNED = b"""tree 1111111111111111111111111111111111111111
parent 2222222222222222222222222222222222222222
parent 3333333333333333333333333333333333333333
author Ada <ada@example.org> 1700000000 +0100
committer Bea B <bea@example.org> 1700003600 -0330
gpgsig -----BEGIN PGP SIGNATURE-----
 parent 4444444444444444444444444444444444444444

 committer Mallory <m@example.org> 1 +0000
 -----END PGP SIGNATURE-----

Merge feat/a: A\xff

What was done.

Task: a
Attempt: 2
"""


def make_commit(repository: Repository, subject: str, *parents: str) -> str:
    words = [word for parent in parents for word in ("-p", parent)]
    return repository.git.text("commit-tree", *words, "-m", subject, "refs/heads/main^{tree}")


def test_commit_is_taken_apart_whatever_its_signature_says() -> None:
    # Git writes an empty line in a signature as a single space.
    commit = parse_commit("5" * 40, SIGNED.replace(b"\n\n committer", b"\n \n committer"))
    assert (commit.tree, commit.parents) == ("1" * 40, ("2" * 40, "3" * 40))
    assert commit.author == "Ada <ada@example.org> 1700000000 +0100"
    assert commit.committer == "Bea B <bea@example.org> 1700003600 -0330"
    assert commit.subject == "Merge feat/a: A\N{REPLACEMENT CHARACTER}"
    assert commit.trailers == {"Task": "a", "Attempt": "2"}
    assert commit.message.startswith(commit.subject)


def test_commit_is_read_as_git_shows_it(repository: Repository) -> None:
    git = repository.git
    root = git.resolve("refs/heads/main") or ""
    one = make_commit(repository, "One", root)
    merge = make_commit(repository, "Merge", one, make_commit(repository, "Beside", root))
    with Objects(git) as objects:
        found = read_commit(objects, merge)
    tree, *parents = git.text("log", "-n1", "--format=%T %P", merge).split()
    assert (found.id, found.tree, found.parents, found.subject) == (merge, tree, tuple(parents), "Merge")
    assert found.committed_at == datetime.fromisoformat(git.text("log", "-n1", "--format=%cI", merge))
    assert [commit.id for commit in read_first_parents(git, merge, 2)] == [merge, one]
    assert [commit.id for commit in read_first_parents(git, merge, 100)] == [merge, one, root]
    assert read_first_parents(git, root, 100)[0].parents == ()
    assert read_commits(git, []) == []
    with pytest.raises(GitError):
        read_commits(git, [root, "1" * 40])
