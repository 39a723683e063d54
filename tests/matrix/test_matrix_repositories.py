"""Publishing in every kind of repository, with the target checked out elsewhere, twice or not at all."""

from pathlib import Path

import pytest
from matrix.checkout_states import UserCheckout, expect_admin, expect_moved, expect_untouched

from tasks_lib.errors import InputError
from tasks_lib.git.publish.local_branch import AlreadyThere, Pending, Published
from tasks_lib.git.repository import Repository

NOT_CHECKED_OUT = {
    "another branch": "git checkout -q topic",
    "another branch, and dirty": "git checkout -q topic; echo x > landed.txt; echo x > added.txt",
    "detached at the target": "git checkout -q --detach",
    "detached, and staged": "git checkout -q --detach; echo x > landed.txt; git add -A",
    "a branch without a commit": "git checkout -q --orphan fresh",
    "a worktree that is detached": "git checkout -q --detach; git worktree add -q --detach ../linked main",
}


@pytest.mark.parametrize("script", NOT_CHECKED_OUT.values(), ids=NOT_CHECKED_OUT.keys())
def test_target_that_nobody_has_checked_out_moves_alone(repo: UserCheckout, script: str) -> None:
    repo.run(script)
    commit, before = repo.head_of("plain"), repo.read_state()
    assert repo.publish(commit) == Published(commit)
    after = repo.read_state()
    assert (after.files, after.entries) == (before.files, before.entries)
    names = before.admin.keys() | after.admin.keys()
    changed = {name for name in names if before.admin.get(name) != after.admin.get(name)}
    assert changed <= {"refs/heads/main", "logs/refs/heads/main"}


ELSEWHERE = {
    "a linked worktree": "git worktree add -q ../linked main",
    "a locked worktree": "git worktree add -q ../linked main; git worktree lock ../linked --reason 'on a stick'",
    "a worktree that was moved by git": "git worktree add -q ../first main; git worktree move ../first ../linked",
    "a worktree that was moved and fixed": "git worktree add -q ../first main; mv ../first ../linked; git worktree "
                                            "repair ../linked",
    "a worktree with a setting of its own": "git config extensions.worktreeConfig true; git worktree add -q ../linked "
                                            "main; git -C ../linked config --worktree core.autocrlf false",
}  # fmt: skip


@pytest.mark.parametrize("script", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_worktree_that_has_the_target_is_moved_and_no_other(repo: UserCheckout, script: str) -> None:
    repo.run(f"git checkout -q topic; {script}")
    linked = repo.top.parent / "linked"
    (linked / "mine.txt").write_text("dirty")
    here, there, base, commit = repo.read_state(), repo.read_state(linked), repo.tip(), repo.head_of("plain")
    assert repo.publish(commit) == Published(commit)
    expect_moved(repo, there, base, commit, at=linked)
    assert (repo.read_state().files, repo.read_state().entries) == (here.files, here.entries)


GONE = {
    "was deleted": "rm -rf ../linked",
    "was moved by hand": "mv ../linked ../moved",
    "was moved by hand while locked": "git worktree lock ../linked; mv ../linked ../moved",
    "lost its link": "rm ../linked/.git",
    "is another repository now": "rm -rf ../linked; git clone -q -b main . ../linked",
    "is a file now": "rm -rf ../linked; touch ../linked",
}


@pytest.mark.parametrize("script", GONE.values(), ids=GONE.keys())
def test_worktree_that_has_the_target_and_is_gone_is_waited_for(repo: UserCheckout, script: str) -> None:
    repo.run(f"git checkout -q topic; git worktree add -q ../linked main; {script}")
    commit, before = repo.head_of("plain"), repo.read_state()
    found = repo.publish(commit)
    assert isinstance(found, Pending)
    assert str(repo.top.parent / "linked") in found.reason
    expect_untouched(repo, before)
    assert not (repo.top.parent / "linked/added.txt").exists()


def test_target_in_two_worktrees_waits_for_a_person(repo: UserCheckout) -> None:
    repo.run("git worktree add -q -f ../linked main")
    before = repo.read_state()
    found = repo.publish(repo.head_of("plain"))
    assert isinstance(found, Pending)
    assert "more than once" in found.reason
    expect_untouched(repo, before)


def test_target_in_two_worktrees_of_which_one_was_deleted_says_how_to_forget_it(repo: UserCheckout) -> None:
    repo.run("git worktree add -q -f ../linked main; rm -rf ../linked")
    before = repo.read_state()
    found = repo.publish(repo.head_of("plain"))
    assert isinstance(found, Pending)
    assert f"{repo.top.parent / 'linked'}, which does not exist" in found.reason
    assert "git worktree prune" in found.reason
    expect_untouched(repo, before)


KINDS = {
    "packed refs": "git pack-refs --all --prune; git gc -q --prune=never",
    "a symbolic ref as the target": "git branch -m main trunk; git symbolic-ref refs/heads/main refs/heads/trunk; "
                                    "git symbolic-ref HEAD refs/heads/main",
    "a symbolic ref as the target, its end checked out": "git branch -m main trunk; "
                                                         "git symbolic-ref refs/heads/main refs/heads/trunk",
    "a sparse checkout": "git sparse-checkout set --no-cone '/*' '!/deep' '!/link'",
    "a sparse index": "git sparse-checkout set --cone --sparse-index folder",
    "modes that do not count": "git config core.fileMode false; chmod +x mine.txt landed.txt",
    "a replaced object": "git replace -f topic topic~1",
    "a note": "git notes add -m note",
    "a shared index": "git update-index --split-index",
    "a file monitor's index": "git config core.fsmonitor true; git config core.untrackedCache true; git status -s",
}  # fmt: skip


@pytest.mark.parametrize("script", KINDS.values(), ids=KINDS.keys())
def test_repository_of_every_kind_is_moved_exactly(repo: UserCheckout, script: str) -> None:
    repo.run(script)
    base, commit = repo.tip(), repo.head_of("plain")
    hidden = set(repo.run("git ls-files -t | sed -n 's/^S //p'").splitlines())
    assert repo.publish(commit) == Published(commit)
    assert repo.tip() == repo.tip("HEAD") == commit
    assert repo.run("git status --porcelain") == ""
    assert repo.publish(commit) == AlreadyThere()
    assert repo.publish(base) == AlreadyThere()
    assert (repo.top / "landed.txt").read_text() == "new\n"
    assert not any((repo.top / name).exists() for name in hidden)


def test_chain_of_symbolic_refs_that_ends_nowhere_says_what_to_do(repo: UserCheckout) -> None:
    repo.run("git checkout -q topic; git branch -D main; git symbolic-ref refs/heads/main refs/heads/nowhere")
    with pytest.raises(InputError, match="does not exist"):
        repo.publish(repo.head_of("plain"))


def test_branch_without_a_commit_as_the_target_says_what_to_do(repo: UserCheckout) -> None:
    repo.run("git checkout -q --orphan fresh")
    with pytest.raises(InputError, match='"fresh" does not exist'):
        repo.publish(repo.head_of("plain"), "fresh")


COPIES = {
    "bare": ("git clone -q --bare . ../copy", False),
    "bare with a worktree of the target": ("git clone -q --bare . ../copy; git -C ../copy worktree add -q ../at main", True),
    "alternates": ("git clone -q --shared . ../copy", True),
    "shallow": ("git clone -q --depth 1 --no-single-branch file://$PWD ../copy; cd ../copy; git branch landing $(git -c user.name=A -c user.email=a@b.c commit-tree origin/heads/0^{tree} -p HEAD -m x)", True),
    "a separate git directory": ("git clone -q --separate-git-dir ../apart . ../copy", True),
    "SHA-256": (("git init -q -b main --object-format=sha256 ../copy; cd ../copy; git config user.name A; "
                "git config user.email a@b.c; printf 'old\\n' > landed.txt; git add -A; git commit -q -m x; "
                "git checkout -q -b landing; printf 'new\\n' > landed.txt; git commit -q -a -m y; git checkout -q main"), True),
}  # fmt: skip


@pytest.mark.parametrize(("script", "is_checked_out"), COPIES.values(), ids=COPIES.keys())
def test_copy_of_every_kind_is_moved(repo: UserCheckout, script: str, is_checked_out: bool) -> None:
    repo.run("git checkout -q main; git branch landing heads/0; " + script)
    copy = UserCheckout(repo.top.parent / "copy")
    commit = copy.run("git rev-parse landing 2> /dev/null || git rev-parse origin/landing").splitlines()[-1]
    assert copy.publish(commit) == Published(commit)
    assert copy.tip() == commit
    if is_checked_out:
        at = repo.top.parent / "at" if "worktree" in script else copy.top
        assert copy.run("git status --porcelain", at) == ""
        assert (at / "landed.txt").read_text() == "new\n"


def test_partial_clone_that_lost_its_remote_waits_and_nothing_is_half_done(repo: UserCheckout) -> None:
    repo.run("git config uploadpack.allowFilter true; git clone -q --filter=blob:none file://$PWD ../copy")
    copy = UserCheckout(repo.top.parent / "copy")
    commit = copy.run("git rev-parse origin/heads/0")
    repo.top.rename(repo.top.parent / "gone")
    before = copy.read_state()
    found = copy.publish(commit)
    assert isinstance(found, Pending), found
    after = copy.read_state()
    assert (after.files, after.entries) == (before.files, before.entries)
    expect_admin(before, after, ("FETCH_HEAD", "index"))
    (repo.top.parent / "gone").rename(repo.top)
    assert copy.publish(commit) == Published(commit)


def test_refs_that_are_kept_in_a_table_are_refused_with_what_to_do(repo: UserCheckout) -> None:
    repo.run("git config core.repositoryFormatVersion 1; git config extensions.refStorage reftable")
    with pytest.raises(InputError, match=r"refstorage|reftable|not a git repository"):
        Repository.open(repo.top)


def test_repository_of_another_owner_is_refused_with_what_to_do(
    repo: UserCheckout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(InputError) as caught:
        Repository.open(repo.top)
    (line,) = str(caught.value).splitlines()
    assert "safe.directory" in line
    assert "git init" not in line


def test_repository_without_a_commit_is_refused_with_what_to_do(tmp_path: Path) -> None:
    UserCheckout(tmp_path).run("git init -q -b main")
    with pytest.raises(InputError, match="has no commit yet"):
        Repository.open(tmp_path)


PATHS = ["with spaces", "with\nnewline", "ünï-文", "-dash", "100%", "'quotes'\"", "a" * 100 + "/" + "b" * 120]


@pytest.mark.parametrize("name", PATHS, ids=["spaces", "newline", "unicode", "dash", "percent", "quotes", "long"])
def test_repository_at_any_path_with_any_names_is_moved_exactly(repo: UserCheckout, tmp_path: Path, name: str) -> None:
    top = tmp_path / name
    top.parent.mkdir(exist_ok=True)
    repo.top.rename(top)
    moved = UserCheckout(top)
    inner = name[:100].rpartition("/")[2]
    (top / inner).write_text("x\n")
    moved.run("git add -A; git commit -q -m Prepare")
    moved.run('git checkout -q -b landing; for f in ./*; do test -f "$f" && echo y > "$f"; done; git commit -q -a -m L')
    moved.run("git checkout -q main; git worktree add -q ../-linked main -f; git worktree remove -f ../-linked")
    base, commit, before = moved.tip(), moved.tip("landing"), moved.read_state()
    assert moved.publish(commit) == Published(commit)
    expect_moved(moved, before, base, commit)
    moved.run(f"git reset -q --hard {base}")
    (top / inner).write_text("dirty\n")
    before = moved.read_state()
    found = moved.publish(commit)
    assert isinstance(found, Pending)
    assert "\n" not in found.reason
    expect_untouched(moved, before)
