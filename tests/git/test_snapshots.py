"""Whatever is about to be deleted is kept whole, once, at its own ref, and keeping it changes nothing else."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks_lib.git.kept.snapshots import keep_state, list_kept
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees


@pytest.fixture
def worktree(repository: Repository) -> Worktree:
    return Worktrees(repository).open_branch("feat/a", head_of(repository))


def head_of(repository: Repository) -> str:
    found = repository.branch_head("main")
    assert found
    return found


def show(repository: Repository, ref: str | None, path: str) -> bytes:
    return repository.git.run("show", f"{ref}:{path}").stdout


def names(repository: Repository, ref: str | None) -> set[str]:
    return set(repository.git.text("ls-tree", "-r", "-z", "--name-only", f"{ref}").rstrip("\0").split("\0"))


def test_clean_tree_that_has_landed_needs_no_keeping(repository: Repository, worktree: Worktree) -> None:
    assert keep_state(worktree, "a", "run", landed=head_of(repository)) is None
    (worktree.path / "build").mkdir()
    (worktree.path / "build" / "ignored").touch()
    assert keep_state(worktree, "a", "run", landed=head_of(repository)) is None
    assert list_kept(repository) == []


def test_commit_that_has_not_landed_is_kept_once(repository: Repository, worktree: Worktree) -> None:
    worktree.git.run("commit", "--quiet", "--allow-empty", "--message", "Work")
    ref = keep_state(worktree, "deep/a", "run", landed=head_of(repository))
    assert ref == "refs/coordinator/kept/deep-a/1"
    assert repository.git.text("rev-parse", f"{ref}^") == worktree.git.text("rev-parse", "HEAD")
    assert keep_state(worktree, "deep/a", "rerun", landed=head_of(repository)) == ref
    assert keep_state(worktree, "deep/a", "rerun") == ref
    (kept,) = list_kept(repository)
    assert (kept.ref, kept.label, kept.date.tzinfo is not None) == (ref, "deep-a", True)


def test_uncommitted_and_untracked_files_are_kept_without_ignored_and_excluded_ones(
    repository: Repository, worktree: Worktree
) -> None:
    (worktree.path / "README.md").write_text("changed\n")
    for name in ("new/file", "build/ignored", ".env", "secrets/key"):
        (worktree.path / name).parent.mkdir(exist_ok=True)
        (worktree.path / name).write_text(name)
    (worktree.path / ".gitignore").write_text("build/\n")
    (worktree.path / "script").write_text("#!/bin/sh\n")
    (worktree.path / "script").chmod(0o755)
    ref = keep_state(worktree, "a", "run", exclude=[".env", "secrets/"], landed=head_of(repository))
    assert names(repository, ref) == {".gitignore", "README.md", "new/file", "script"}
    assert show(repository, ref, "README.md") == b"changed\n"
    assert repository.git.text("ls-tree", f"{ref}", "script").startswith("100755")
    assert repository.git.text("log", "-1", "--format=%an %s", f"{ref}") == "Coordinator Kept: a"


def test_keeping_leaves_index_and_files_alone(worktree: Worktree) -> None:
    (worktree.path / "README.md").write_text("staged\n")
    worktree.git.run("add", "README.md")
    (worktree.path / "README.md").write_text("not staged\n")
    index, status = (worktree.git_dir / "index").read_bytes(), worktree.git.text("status", "--porcelain")
    files = set(worktree.git_dir.iterdir())
    assert keep_state(worktree, "a", "run")
    assert ((worktree.git_dir / "index").read_bytes(), set(worktree.git_dir.iterdir())) == (index, files)
    assert worktree.git.text("status", "--porcelain") == status == "MM README.md"


def test_what_was_staged_and_then_overwritten_is_kept_too(repository: Repository, worktree: Worktree) -> None:
    (worktree.path / "README.md").write_text("staged\n")
    worktree.git.run("add", "README.md")
    (worktree.path / "README.md").write_text("# Example\n")
    ref = keep_state(worktree, "a", "run", landed=head_of(repository))
    assert show(repository, ref, "README.md") == b"# Example\n"
    assert show(repository, f"{ref}^2", "README.md") == b"staged\n"


def test_conflict_in_progress_is_kept_with_its_markers(repository: Repository, worktree: Worktree) -> None:
    for place, text in ((worktree.path, "ours\n"), (repository.top, "theirs\n")):
        (place / "README.md").write_text(text)
        Git(place).run("commit", "--quiet", "--all", "--message", text)
    worktree.git.run("merge", "main", accept=(1,))
    ref = keep_state(worktree, "a", "run")
    assert b"<<<<<<<" in show(repository, ref, "README.md")


def test_files_hidden_from_git_are_kept(repository: Repository, worktree: Worktree) -> None:
    worktree.git.run("update-index", "--assume-unchanged", "README.md")
    (worktree.path / "README.md").write_text("hidden\n")
    ref = keep_state(worktree, "a", "run", landed=head_of(repository))
    assert show(repository, ref, "README.md") == b"hidden\n"


def test_files_of_a_repository_inside_the_worktree_are_kept(repository: Repository, worktree: Worktree) -> None:
    for name, has_commit in (("empty", False), ("full", True)):
        inner = worktree.path / name
        repository.git.run("init", "--quiet", str(inner))
        (inner / "file").write_text(name)
        (inner / "link").symlink_to("file")
        if has_commit:
            git = Git(inner)
            git.run("add", "--all")
            git.run("-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "--message", "Inner")
    ref = keep_state(worktree, "a", "run", landed=head_of(repository))
    expected = {f"{directory}/{file}" for directory in ("empty", "full") for file in ("file", "link")}
    assert expected < names(repository, ref)
    assert show(repository, ref, "full/file") == b"full"
    assert show(repository, ref, "empty/link") == b"file"


def test_orphan_branch_without_a_commit_is_kept(repository: Repository, worktree: Worktree) -> None:
    worktree.git.run("checkout", "--quiet", "--orphan", "elsewhere")
    (worktree.path / "new").write_text("new\n")
    ref = keep_state(worktree, "a", "run", landed=head_of(repository))
    assert names(repository, ref) == {".gitignore", "README.md", "new"}


def test_each_state_has_a_ref_that_is_never_moved(repository: Repository, worktree: Worktree) -> None:
    refs: list[str | None] = []
    for text in ("one", "two"):
        (worktree.path / "README.md").write_text(text)
        refs.append(keep_state(worktree, "a", "run"))
    assert refs == ["refs/coordinator/kept/a/1", "refs/coordinator/kept/a/2"]
    assert [show(repository, ref, "README.md") for ref in refs] == [b"one", b"two"]
    assert [kept.ref for kept in list_kept(repository)] == refs


parts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=12)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.dictionaries(parts.map(lambda p: "f" + p), st.binary(max_size=40), max_size=4))
def test_every_byte_of_every_untracked_file_is_kept(
    repository: Repository, worktree: Worktree, files: dict[str, bytes]
) -> None:
    place = worktree.path / "some"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    for name, content in files.items():
        (place / name).write_bytes(content)
    ref = keep_state(worktree, "a", "run")
    assert {name: show(repository, ref, f"some/{name}") for name in files} == files
    assert names(repository, ref) - {".gitignore", "README.md"} == {f"some/{name}" for name in files}


def test_kept_state_outlives_its_worktree(repository: Repository, worktree: Worktree) -> None:
    (worktree.path / "precious").write_bytes(b"\x00\xff")
    ref = keep_state(worktree, "a", "run")
    Worktrees(repository).remove(worktree)
    repository.git.run("gc", "--quiet")
    assert show(repository, ref, "precious") == b"\x00\xff"
    assert not Path(worktree.path).exists()
