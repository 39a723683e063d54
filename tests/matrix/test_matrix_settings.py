"""Publishing with the user's settings, filters and hooks: the same bytes, and of their programs only filters run."""

import os
import shutil
import subprocess
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from checker_traces import git
from matrix.checkout_states import State, UserCheckout, expect_admin, expect_moved, expect_untouched

from tasks_lib.git.publish.local_branch import Pending, Published
from tasks_lib.project.child_environment import REPOSITORY_MARKER

HOOKS = ("post-checkout", "post-merge", "pre-merge-commit", "reference-transaction", "post-index-change", "pre-auto-gc")
SETTINGS: dict[str, str] = {
    "of merges": """
        [merge] ff = false
        autoStash = true
        verifySignatures = true
        conflictStyle = zdiff3
        log = true
        [branch "main"] mergeOptions = --no-ff --squash --no-commit
        rebase = true
        [pull] rebase = true
        [rebase] autoStash = true
        [submodule] recurse = true
        [rerere] enabled = true""",
    "of what is shown": """
        [color] ui = always
        diff = always
        status = always
        branch = always
        [core] quotePath = true
        abbrev = 4
        pager = false
        logAllRefUpdates = false
        [status] relativePaths = true
        showUntrackedFiles = no
        branch = true
        [diff] external = false
        noprefix = true
        relative = true
        [log] showSignature = true
        [i18n] logOutputEncoding = UTF-16
        commitEncoding = latin1
        [advice] statusHints = false""",
    "of aliases": """
        [alias] merge = !false
        update-ref = !false
        worktree = !false
        rev-parse = !false""",
    "of the index": """
        [core] untrackedCache = true
        splitIndex = true
        preloadIndex = true
        [index] version = 4
        [feature] manyFiles = true""",
    "of files": """
        [core] trustctime = false
        checkStat = minimal
        sharedRepository = group
        [checkout] workers = 2
        [core] bigFileThreshold = 1""",
    "of signatures": """
        [commit] gpgsign = true
        [tag] gpgsign = true
        [gpg] format = ssh
        program = false
        [gpg "ssh"] program = false
        [user] signingkey = nothing""",
    "of a file monitor": "[core] fsmonitor = echo {told}; touch {told}",
    "of hooks": "[core] hooksPath = {hooks}",
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_settings_of_a_person_do_not_change_what_publishing_does(
    repo: UserCheckout, tmp_path: Path, settings: str
) -> None:
    told, hooks = tmp_path / "told", tmp_path / "hooks"
    make_hooks(hooks, told)
    with (repo.top / ".git/config").open("a") as file:
        file.write(settings.format(told=told, hooks=hooks))
    (repo.top / "added.txt").write_text("precious")
    base, commit, before = repo.tip(), repo.head_of("plain"), repo.read_state()
    found = repo.publish(commit)
    assert isinstance(found, Pending)
    assert "added.txt" in found.reason
    expect_untouched(repo, before)
    (repo.top / "added.txt").unlink()
    (repo.top / "mine.txt").write_text("dirty")
    before = repo.read_state()
    told.unlink(missing_ok=True)
    assert repo.publish(commit) == Published(commit)
    assert not told.exists()
    expect_moved(repo, before, base, commit)


def make_hooks(folder: Path, told: Path, names: Collection[str] = HOOKS, *, only_without: str = "-") -> None:
    """Install hooks that record that they ran, and fail; if the variable `only_without` is set, they record it and pass."""
    folder.mkdir()
    for name in names:
        passes = (
            f'[ -z "${{{only_without}}}" ] || {{ echo {name} >> {told}-agent; exit 0; }}\n'
            if only_without != "-"
            else ""
        )
        (folder / name).write_text(f"#!/bin/sh\n{passes}echo {name} >> {told}\nexit 1\n")
        (folder / name).chmod(0o755)


def test_hooks_of_the_repository_do_not_run(repo: UserCheckout, tmp_path: Path) -> None:
    shutil.rmtree(repo.top / ".git/hooks")
    make_hooks(repo.top / ".git/hooks", tmp_path / "told")
    base, commit, before = repo.tip(), repo.head_of("plain"), repo.read_state()
    (tmp_path / "told").unlink(missing_ok=True)
    assert repo.publish(commit) == Published(commit)
    assert not (tmp_path / "told").exists()
    expect_moved(repo, before, base, commit)


# Filters and conversions: git itself decides which bytes belong in the checkout.


def land(repo: UserCheckout, script: str, settings: str = "") -> str:
    """Make a commit on top of main by a shell line with only `settings`; main and the checkout stay as they are."""
    repo.run(
        f"git checkout -q -b landing; {script}; git add -A; git {settings} commit -q -m Land; git checkout -q main"
    )
    return repo.tip("landing")


CONVERSIONS = {
    "line ends by attribute": ("echo '*.txt text eol=crlf' > .gitattributes", "printf 'a\nb\n' > landed.txt"),
    "line ends by setting": ("git config core.autocrlf true; echo '* text=auto' > .gitattributes",
                             "printf 'a\nb\n' > landed.txt"),
    "attributes that land": (":", "echo '*.txt text eol=crlf' > .gitattributes; printf 'a\nb\n' > added.txt"),
    "ident": ("echo '*.txt ident' > .gitattributes", "printf '$Id$\n' > landed.txt"),
    "another encoding": ("echo '*.txt working-tree-encoding=UTF-16LE' > .gitattributes; rm *.txt",
                         "printf 'new\\n' | iconv -t UTF-16LE > landed.txt"),
    "a filter": (("git config filter.up.clean 'tr A-Z a-z'; git config filter.up.smudge 'tr a-z A-Z'; "
                 "git config filter.up.required true; echo '*.txt filter=up' > .gitattributes"), "echo NEW > landed.txt"),
    "LFS pointers without git-lfs": ("echo '*.bin filter=lfs -text' > .gitattributes",
                                     "printf 'version https://git-lfs.github.com/spec/v1\n' > big.bin"),
}  # fmt: skip


@pytest.mark.parametrize(("prepare", "landing"), CONVERSIONS.values(), ids=CONVERSIONS.keys())
def test_checkout_holds_what_git_makes_of_the_commit(repo: UserCheckout, prepare: str, landing: str) -> None:
    repo.run(f"{prepare}; git add -A; git commit -q --allow-empty -m Prepare; rm -rf *; git checkout -q -f .")
    commit = land(repo, landing)
    assert repo.run("git status --porcelain") == ""
    assert repo.publish(commit) == Published(commit)
    assert repo.run("git status --porcelain; git ls-files -z | xargs -0 touch -h; git status --porcelain") == ""
    for name in repo.run("git diff --name-only landing~1 landing").splitlines():
        assert (repo.top / name).read_bytes() == git(repo.top, "cat-file", "--filters", f"{commit}:{name}")


def test_filter_that_fails_makes_it_wait_and_nothing_is_half_done(repo: UserCheckout) -> None:
    """Git would write the other files and delete the one whose filter fails."""
    repo.run("echo 'landed.txt filter=lfs' > .gitattributes; git add -A; git commit -q -m Prepare")
    commit = land(repo, "printf 'new\n' > landed.txt; printf 'x\n' > added.txt; rm gone.txt")
    repo.run("git config filter.lfs.smudge false; git config filter.lfs.clean cat; git config filter.lfs.required true")
    before = repo.read_state()
    found = repo.publish(commit)
    assert isinstance(found, Pending)
    assert "a filter" in found.reason
    assert "landed.txt" in found.reason
    expect_untouched(repo, before)
    repo.run("git config filter.lfs.smudge cat")
    assert repo.publish(commit) == Published(commit)
    assert (repo.top / "landed.txt").read_text() == "new\n"


def test_filter_that_fails_only_once_git_is_writing_is_taken_back(repo: UserCheckout) -> None:
    """The attributes land together with the files they apply to, so the filter is not known beforehand."""
    commit = land(
        repo, "echo 'landed.txt filter=bad' > .gitattributes; echo new > landed.txt; echo x > added.txt; rm gone.txt"
    )
    repo.run("git config filter.bad.smudge false; git config filter.bad.required true")
    before = repo.read_state()
    found = repo.publish(commit)
    assert isinstance(found, Pending)
    assert "landed.txt" in found.reason
    assert "could not be restored" not in found.reason
    expect_untouched_but_index(repo, before)


def test_next_run_does_not_take_the_fast_forward_of_a_killed_one_for_a_leftover(
    repo: UserCheckout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run ends processes with the repository's marker; here that would end git in the middle of writing files."""
    told = repo.top.parent / "told"
    repo.run("echo '*.txt filter=tell' > .gitattributes; git add -A; git commit -q -m Prepare")
    commit = land(repo, "echo new > landed.txt")
    repo.run(f"git config filter.tell.smudge 'echo \"<$COORDINATOR_REPOSITORY>\" > {told}; cat'")
    monkeypatch.setenv(REPOSITORY_MARKER, str(repo.top / ".git"))
    assert repo.publish(commit) == Published(commit)
    assert told.read_text() == "<>\n"


def test_folder_that_cannot_be_written_makes_it_wait_and_nothing_is_half_done(repo: UserCheckout) -> None:
    commit = land(
        repo, "echo new > landed.txt; echo x > added.txt; echo new > deep/a.txt; echo x > deep/z.txt; rm gone.txt"
    )
    folder = repo.top / "deep"
    before = repo.read_state()
    with unwritable(folder):
        found = repo.publish(commit)
        expect_untouched_but_index(repo, before)
    assert isinstance(found, Pending)
    assert "deep/" in found.reason
    assert repo.publish(commit) == Published(commit)


@contextmanager
def unwritable(folder: Path) -> Generator[None]:
    """Prevent everyone, even root, from creating, changing or removing files in `folder`."""
    if os.geteuid():
        folder.chmod(0o555)
    elif subprocess.run(["chattr", "+i", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("root writes everywhere, and this file system has no immutable files")
    try:
        yield
    finally:
        if os.geteuid():
            folder.chmod(0o755)
        else:
            subprocess.run(["chattr", "-i", str(folder)], check=True)


def expect_untouched_but_index(repo: UserCheckout, before: State) -> None:
    """Like `expect_untouched`, but allow the index other file times as long as it has the same blobs."""
    after = repo.read_state()
    assert (after.files, after.entries) == (before.files, before.entries)
    expect_admin(before, after, ("index",))
    assert repo.run("git status --porcelain") == ""
