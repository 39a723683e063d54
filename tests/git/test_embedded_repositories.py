"""A repository inside a worktree is kept with its commits, whether created or cloned, amended, stashed or shallow."""

import tarfile
from pathlib import Path

import pytest

from tasks_lib.git.kept.restore_and_prune import find_kept, restore
from tasks_lib.git.kept.snapshots import keep_state
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees


@pytest.fixture
def worktree(repository: Repository) -> Worktree:
    head = repository.branch_head("main")
    assert head
    return Worktrees(repository).open_branch("feat/a", head)


def commit(git: Git, subject: str, name: str = "file.txt") -> str:
    (git.directory / name).write_text(f"{subject}\n")
    git.run("add", "--all")
    git.run("-c", "user.name=Sub", "-c", "user.email=sub@example.org", "commit", "--quiet", "--message", subject)
    return git.text("rev-parse", "HEAD")


def make(place: Path, *words: str) -> Git:
    place.mkdir()
    git = Git(place)
    git.run("init", "--quiet", *words)
    return git


def is_held(repository: Repository, oid: str) -> bool:
    """Whether the commit is reachable from a kept ref."""
    return oid in repository.git.text("rev-list", "--glob=refs/coordinator/kept").split()


def test_commits_of_a_repository_made_inside_are_kept_with_its_files(
    repository: Repository, worktree: Worktree
) -> None:
    inner = make(worktree.path / "lib")
    first, second = commit(inner, "First"), commit(inner, "Second", "deep.sh")
    (worktree.path / "lib" / "deep.sh").chmod(0o755)
    (worktree.path / "lib" / "loose.txt").write_text("loose\n")
    ref = keep_state(worktree, "a", "run")
    assert ref
    assert is_held(repository, first)
    assert is_held(repository, second)
    assert repository.git.text("show", f"{ref}:lib/loose.txt") == "loose"
    assert repository.git.text("ls-tree", ref, "lib/deep.sh").startswith("100755")
    assert keep_state(worktree, "a", "rerun") == ref


@pytest.mark.parametrize("deed", ["amend", "reset", "stash", "side branch", "tag"])
def test_commit_that_is_not_checked_out_is_kept_too(repository: Repository, worktree: Worktree, deed: str) -> None:
    inner = make(worktree.path / "lib")
    inner.run("config", "user.name", "Sub")
    inner.run("config", "user.email", "sub@example.org")
    commit(inner, "First")
    oid = commit(inner, "Second")
    match deed:
        case "amend":
            inner.run("commit", "--quiet", "--amend", "--message", "Changed")
        case "reset":
            inner.run("reset", "--quiet", "--hard", "HEAD~1")
        case "stash":
            (inner.directory / "file.txt").write_text("stashed\n")
            inner.run("stash", "--quiet")
            oid = inner.text("rev-parse", "refs/stash")
        case "side branch":
            inner.run("checkout", "--quiet", "-b", "side")
            oid = commit(inner, "Side")
            inner.run("checkout", "--quiet", "-")
        case _:
            inner.run("tag", "--annotate", "--message", "One", "v1")
            inner.run("reset", "--quiet", "--hard", "HEAD~1")
    assert keep_state(worktree, "a", "run")
    assert is_held(repository, oid)


@pytest.mark.parametrize("is_own", [True, False], ids=["with a commit of its own", "as it was cloned"])
def test_clone_is_kept_for_what_its_remote_has_not(
    repository: Repository, worktree: Worktree, is_own: bool, tmp_path: Path
) -> None:
    upstream = make(tmp_path / "upstream")
    theirs = commit(upstream, "Theirs")
    Git(tmp_path).run("clone", "--quiet", "upstream", str(worktree.path / "lib"))
    own = commit(Git(worktree.path / "lib"), "Own", "own.txt") if is_own else theirs
    assert keep_state(worktree, "a", "run")
    assert is_held(repository, own) == is_own
    assert bool(repository.git.resolve(theirs)) == is_own


@pytest.mark.parametrize("kind", ["shallow", "sha256"])
def test_repository_that_cannot_be_fetched_from_is_kept_as_an_archive(
    repository: Repository, worktree: Worktree, kind: str, tmp_path: Path
) -> None:
    if kind == "sha256":
        commit(make(worktree.path / "lib", "--object-format=sha256"), "Own")
    else:
        upstream = make(tmp_path / "upstream")
        commit(upstream, "One")
        commit(upstream, "Two")
        Git(tmp_path).run("clone", "--quiet", "--depth=1", f"file://{tmp_path}/upstream", str(worktree.path / "lib"))
        commit(Git(worktree.path / "lib"), "Own")
    ref = keep_state(worktree, "a", "run")
    assert ref
    assert not (repository.common_dir / "shallow").exists()
    blob = repository.git.run("cat-file", "blob", f"{ref}:lib/.git.tar").stdout
    (tmp_path / "back").mkdir()
    (tmp_path / "back.tar").write_bytes(blob)
    with tarfile.open(tmp_path / "back.tar") as archive:
        archive.extractall(tmp_path / "back", filter="data")
    assert Git(tmp_path / "back").text("log", "-n1", "--format=%s") == "Own"


def test_commits_of_an_inner_repository_are_not_taken_for_something_staged(
    repository: Repository, worktree: Worktree
) -> None:
    commit(make(worktree.path / "lib"), "Own")
    keep_state(worktree, "a", "run")
    assert not restore(repository, find_kept(repository, "a"), "back").has_staged
    (worktree.path / "new.txt").write_text("1\n")
    worktree.git.run("add", "new.txt")
    (worktree.path / "new.txt").write_text("2\n")
    keep_state(worktree, "b", "run")
    assert restore(repository, find_kept(repository, "b"), "again").has_staged
