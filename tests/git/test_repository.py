"""A repository is found from anywhere inside it, and errors about unusable ones say what to do."""

from pathlib import Path

import pytest

from tasks_lib.errors import InputError
from tasks_lib.git.branches import create_branch, delete_branch
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.repository import COORDINATOR_IDENTITY, Repository
from tasks_lib.git.runner import Git


def test_top_is_the_main_working_tree_from_a_subdirectory_and_a_linked_worktree(
    repository: Repository, tmp_path: Path
) -> None:
    (repository.top / "deep").mkdir()
    linked = tmp_path / "linked"
    repository.git.run("worktree", "add", "--quiet", str(linked))
    for path in (repository.top / "deep", linked):
        found = Repository.open(path)
        assert (found.top, found.common_dir) == (repository.top, repository.top / ".git")
        assert found.worktrees_dir == repository.top / ".worktrees"


def test_bare_repository_has_its_git_directory_as_top(repository: Repository, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    repository.git.run("clone", "--quiet", "--bare", str(repository.top), str(bare))
    found = Repository.open(bare)
    assert (found.top, found.common_dir, found.is_bare) == (bare, bare, True)
    assert found.worktrees_dir == tmp_path / ".worktrees" / "bare.git"
    found.git.run("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    assert Repository.open(tmp_path / "linked").top == bare


def test_bare_repository_that_says_so_in_its_own_worktree_settings_is_bare(
    repository: Repository, tmp_path: Path
) -> None:
    bare, linked = tmp_path / "bare.git", tmp_path / "linked"
    repository.git.run("clone", "--quiet", "--bare", str(repository.top), str(bare))
    own = Git(bare)
    own.run("config", "extensions.worktreeConfig", "true")
    own.run("worktree", "add", "--quiet", "--detach", str(linked))
    own.run("config", "--file", "config.worktree", "core.bare", "true")
    own.run("config", "--unset", "core.bare")
    for path in (bare, linked):
        found = Repository.open(path)
        assert (found.top, found.is_bare) == (bare, True)
        assert found.git.resolve("HEAD")


def test_bare_repository_is_opened_where_git_may_not_discover_it(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, linked = tmp_path / "bare.git", tmp_path / "linked"
    repository.git.run("clone", "--quiet", "--bare", str(repository.top), str(bare))
    Git(bare).run("worktree", "add", "--quiet", "--detach", str(linked))
    forbid_discovery(tmp_path, monkeypatch)
    for path in (bare, linked):
        found = Repository.open(path)
        with Objects(found.git) as objects:
            assert (found.top, bool(objects.read_tree("HEAD"))) == (bare, True)


def test_bare_repository_inside_another_worktree_stays_hidden_where_git_may_not_discover_it(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = repository.top / "vendored.git"
    repository.git.run("clone", "--quiet", "--bare", str(repository.top), str(bare))
    forbid_discovery(tmp_path, monkeypatch)
    with pytest.raises(InputError, match="inside another repository; if you trust it"):
        Repository.open(bare)


def forbid_discovery(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = place / "user-settings"
    settings.write_text("[safe]\n\tbareRepository = explicit\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))


def test_separate_git_directory_still_leads_to_the_working_tree(repository: Repository, tmp_path: Path) -> None:
    Git(tmp_path).run("clone", "--quiet", "--separate-git-dir", "elsewhere", str(repository.top), "checkout")
    assert Repository.open(tmp_path / "checkout").top == tmp_path / "checkout"


def test_repository_whose_path_has_a_line_break_is_found(repository: Repository, tmp_path: Path) -> None:
    odd = tmp_path / "two\nlines"
    repository.git.run("clone", "--quiet", str(repository.top), str(odd))
    found = Repository.open(odd)
    assert (found.top, found.common_dir) == (odd, odd / ".git")
    assert Git(odd).layout == found.git.layout


def test_branch_is_located_through_a_symbolic_ref(repository: Repository) -> None:
    git, tip = repository.git, repository.git.text("rev-parse", "HEAD")
    git.run("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    git.run("symbolic-ref", "refs/heads/loose", "refs/heads/none")
    assert git.locate("refs/heads/main") == git.locate("refs/heads/alias") == ("refs/heads/main", tip)
    assert git.locate("refs/heads/gone") == ("refs/heads/gone", None)
    assert git.locate("refs/heads/loose")[1] is None


def test_inherited_git_dir_does_not_redirect(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert Repository.open(repository.top).top == repository.top


def test_directory_without_repository_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="git init"):
        Repository.open(tmp_path)
    with pytest.raises(InputError, match="is not a directory"):
        Repository.open(tmp_path / "missing")


def test_repository_without_commit_is_an_input_error(tmp_path: Path) -> None:
    Git(tmp_path).run("init", "--quiet")
    with pytest.raises(InputError, match="has no commit yet"):
        Repository.open(tmp_path)


def test_prepare_makes_state_and_logs_once_and_again(repository: Repository) -> None:
    repository.prepare()
    repository.prepare()
    assert (repository.common_dir / "coordinator" / "logs").is_dir()


def test_default_target_is_the_branch_checked_out_then_a_usual_one(repository: Repository) -> None:
    git = repository.git
    git.run("switch", "--quiet", "--create", "work")
    assert repository.default_target() == "work"
    git.run("switch", "--quiet", "--detach")
    assert repository.default_target() == "main"
    git.run("config", "init.defaultBranch", "work")
    assert repository.default_target() == "work"
    git.run("symbolic-ref", "HEAD", "refs/heads/unborn")
    assert repository.default_target() == "work"


def test_default_target_without_any_candidate_is_an_input_error(repository: Repository) -> None:
    repository.git.run("branch", "--move", "main", "other")
    repository.git.run("switch", "--quiet", "--detach")
    with pytest.raises(InputError, match="Set `target`"):
        repository.default_target()


def test_exclude_is_added_once_and_keeps_what_is_there(repository: Repository) -> None:
    exclude = repository.common_dir / "info" / "exclude"
    exclude.write_bytes(b"*.secret")
    mode = exclude.stat().st_mode
    repository.exclude_worktrees()
    repository.exclude_worktrees()
    assert exclude.read_bytes() == b"*.secret\n/.worktrees/\n"
    assert exclude.stat().st_mode == mode


def test_identity_is_the_users_where_there_is_one(repository: Repository) -> None:
    assert repository.identity() == {}
    for key in ("user.name", "user.email"):
        repository.git.run("config", "--unset", key)
    repository.git.run("config", "user.useConfigOnly", "true")
    assert repository.identity() == COORDINATOR_IDENTITY


def test_branch_is_made_once_and_deleted_only_where_expected(repository: Repository) -> None:
    first = repository.branch_head("main")
    assert first
    second = repository.git.text("commit-tree", "-p", first, "-m", "next", f"{first}^{{tree}}")
    assert create_branch(repository, "feat/a", first)
    assert not create_branch(repository, "feat/a", second)
    assert not delete_branch(repository, "feat/a", second)
    assert repository.branch_head("feat/a") == first
    repository.git.run("config", "branch.feat/a.remote", "origin")
    assert delete_branch(repository, "feat/a", first)
    assert delete_branch(repository, "feat/a", first)
    assert repository.branch_head("feat/a") is None
    assert repository.git.run("config", "--get-regexp", r"^branch\.", accept=(0, 1)).text == ""
