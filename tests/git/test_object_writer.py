"""Objects and commits written without git: how git reads them, and which identity they have."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from merge_fixtures import IDENTITY

from tasks_lib.errors import GitError
from tasks_lib.git.objects.commit_writer import CommitWriter
from tasks_lib.git.objects.object_database import Entry, Objects
from tasks_lib.git.runner import Git

DATES = {"GIT_AUTHOR_DATE": "1700000000 +0130", "GIT_COMMITTER_DATE": "1700000001 -0800"}
MESSAGE = "Merge feat/ä: Do it\n\nBody.\n\nTask: ä\n"


def make_repository(top: Path, *options: str) -> Git:
    subprocess.run(["git", "init", "-q", *options, str(top)], check=True)
    return Git(top)


@pytest.mark.parametrize("options", [(), ("--object-format=sha256",), ("--shared=group",)])
def test_git_finds_what_was_written_whole_and_right(tmp_path: Path, options: tuple[str, ...]) -> None:
    git = make_repository(tmp_path, *options)
    with Objects(git) as objects:
        blob, empty = objects.write_blob(b"text\n"), objects.edit_tree(git.run("mktree", stdin=b"").text, {})
        # Git sorts directories as if their names ended with a slash: a.c, a/, a0.
        tree = objects.edit_tree(empty, {"a/b": blob, "a.c": blob, "a0": blob, "\udcff": blob})
        tree = objects.put_entries(
            tree, {"run": Entry("100755", "run", blob), "link": Entry("120000", "link", objects.write_blob(b"run"))}
        )
        commit = CommitWriter(git, objects).write(tree, [], MESSAGE, IDENTITY)
        second = CommitWriter(git, objects).write(tree, [commit, commit], MESSAGE, IDENTITY)
        assert objects.read_tree(second) == objects.read_tree(tree)
    git.run("update-ref", "refs/heads/main", second)
    assert "error" not in git.run("fsck", "--strict").stderr
    assert git.text("log", "--format=%B%an %ce", "-1", second) == f"{MESSAGE}Test test@example.com"
    assert git.text("rev-list", "--parents", second).splitlines()[0] == f"{second} {commit}"
    assert git.text("ls-tree", "--name-only", "-z", tree).split("\0")[:4] == ["a.c", "a", "a0", "link"]


def test_group_of_a_shared_repository_may_read_what_was_written(tmp_path: Path) -> None:
    with Objects(make_repository(tmp_path, "--shared=0660")) as objects:
        blob = objects.write_blob(b"shared")
    assert (tmp_path / ".git/objects" / blob[:2]).stat().st_mode & 0o2070 == 0o2070


def test_commit_is_the_one_that_git_would_write(tmp_path: Path) -> None:
    git = make_repository(tmp_path)
    environment = {**IDENTITY, **DATES, "GIT_AUTHOR_NAME": 'O "quote" <ä>.'}
    with Objects(git) as objects:
        tree = objects.edit_tree(git.run("mktree", stdin=b"").text, {"a": objects.write_blob(b"a")})
        written = CommitWriter(git, objects).write(tree, [], MESSAGE, environment)
    assert written == git.run("commit-tree", tree, "-F", "-", stdin=MESSAGE.encode(), environment=environment).text


def test_each_commit_is_in_the_name_that_is_given_for_it(tmp_path: Path) -> None:
    git = make_repository(tmp_path)
    with Objects(git) as objects:
        tree, commits = git.run("mktree", stdin=b"").text, CommitWriter(git, objects)
        names = ["First", "Second", "First"]
        written = [commits.write(tree, [], "x\n", {**IDENTITY, "GIT_AUTHOR_NAME": name}) for name in names]
    assert [git.text("log", "-1", "--format=%an", commit) for commit in written] == names


def test_commit_that_is_nobodys_is_refused(tmp_path: Path) -> None:
    git = make_repository(tmp_path)
    git.run("config", "user.useConfigOnly", "true")
    with Objects(git) as objects, pytest.raises(GitError, match="GIT_AUTHOR_IDENT"):
        CommitWriter(git, objects).write(
            git.run("mktree", stdin=b"").text, [], "x\n", {"GIT_CONFIG_GLOBAL": "/dev/null"}
        )


def test_object_that_a_power_failure_emptied_is_written_again(tmp_path: Path) -> None:
    with Objects(make_repository(tmp_path)) as objects:
        blob = objects.write_blob(b"data")
        file = tmp_path / ".git/objects" / blob[:2] / blob[2:]
        file.chmod(0o600)
        file.write_bytes(b"")
        assert objects.write_blob(b"data") == blob
        assert objects.read(blob) == b"data"
    assert [path.name for path in file.parent.iterdir()] == [blob[2:]]


_NAMES = st.sampled_from(["a", "a.", "a-", "a0", "ab", "a.b", "é", "B"])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.sets(_NAMES, min_size=1, max_size=6), folders=st.sets(_NAMES, max_size=4))
def test_tree_has_the_id_that_git_gives_it(tmp_path: Path, files: set[str], folders: set[str]) -> None:
    git = Git(tmp_path) if (tmp_path / ".git").exists() else make_repository(tmp_path)
    with Objects(git) as objects:
        blob, empty = objects.write_blob(b"x"), git.run("mktree", stdin=b"").text
        paths = [*(files - folders), *(f"{folder}/x" for folder in folders)]
        tree = objects.edit_tree(empty, dict.fromkeys(paths, blob))
        listed = git.run("ls-tree", "-z", tree).stdout
    assert git.run("mktree", "-z", stdin=listed).text == tree
