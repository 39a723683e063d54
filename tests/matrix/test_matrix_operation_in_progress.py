"""Publishing while a git operation of the user's is in progress: publishing waits for it, or is independent of it."""

import pytest
from matrix.checkout_states import UserCheckout, expect_moved, expect_untouched

from tasks_lib.git.publish.local_branch import Pending, Published

STEP = "GIT_SEQUENCE_EDITOR='sed -i 1ibreak' git rebase -q -i"
TO_TOPIC = "git checkout -q topic"
OTHER = "printf 'other\\n' > landed.txt; git commit -q -a -m Other; git branch other; git reset -q --hard start"
OF_THE_TARGET = {
    "merge with a conflict": (f"{OTHER}; git checkout -q main; git merge -q --no-ff --no-commit topic", "a merge"),
    "merge not committed": ("git merge -q --no-ff --no-commit topic", "a merge"),
    "cherry-pick": ("git cherry-pick topic || :", "a cherry-pick"),
    "cherry-pick, between two": ("git cherry-pick topic topic~1 || :; git add -A; git commit -q --no-edit",
                                 "a series of cherry-picks"),
    "revert": ("git merge -q topic; git revert topic~1 || :", "a revert"),
    "rebase by merges": (f"{STEP} HEAD", "a rebase"),
    "rebase by patches": (("git commit -q --allow-empty -m x; printf 'x\\n' > landed.txt; git commit -q -a -m Mine; "
                          "git rebase -q --apply topic || :; git update-ref refs/heads/main start"), "a rebase"),
    "rebase with exec": ("git rebase -q -i --exec false --root || :", "a rebase"),
    "rebase that moves other branches": (("git checkout -q -b stacked; git commit -q --allow-empty -m On; "
                                         f"{STEP} --update-refs --root"), "a rebase"),
    "rebase that stopped to edit": ("GIT_SEQUENCE_EDITOR='sed -i s/^pick/edit/' git rebase -q -i --root", "a rebase"),
    "am": ("git format-patch -q -1 topic --stdout > ../patch; git am -q ../patch || :", "`git am`"),
    "bisect": ("git bisect start; git bisect bad topic; git bisect good start", "a bisect"),
    "bisect that only began": ("git bisect start", "a bisect"),
}  # fmt: skip
OF_ANOTHER = {
    "merge": f"{OTHER}; {TO_TOPIC}; git merge -q other || :",
    "cherry-pick": f"{OTHER}; {TO_TOPIC}; git cherry-pick other || :",
    "revert": f"{TO_TOPIC}; git revert topic~1 || :",
    "rebase by merges": f"{OTHER}; {TO_TOPIC}; git rebase -q other || :",
    "rebase by patches": f"{OTHER}; {TO_TOPIC}; git rebase -q --apply other || :",
    "am": f"{TO_TOPIC}; git format-patch -q -1 topic --stdout > ../patch; git am -q ../patch || :",
    "bisect": f"{TO_TOPIC}; git bisect start; git bisect bad; git bisect good start",
}
"""Operations in progress in the checkout that concern the branch `topic`."""


@pytest.mark.parametrize(("script", "what"), OF_THE_TARGET.values(), ids=OF_THE_TARGET.keys())
def test_what_goes_on_with_the_target_is_waited_for(repo: UserCheckout, script: str, what: str) -> None:
    repo.run(f"({script}) > ../said 2>&1")
    commit, before = repo.run("git commit-tree heads/0^{tree} -p main -m Landed"), repo.read_state()
    found = repo.publish(commit)
    assert isinstance(found, Pending)
    assert f"in the middle of {what}" in found.reason or "to be moved by a rebase" in found.reason, found.reason
    expect_untouched(repo, before)


@pytest.mark.parametrize("name", ["merge not committed", "rebase by merges", "bisect"])
def test_what_goes_on_in_a_linked_worktree_is_waited_for_as_well(repo: UserCheckout, name: str) -> None:
    script, what = OF_THE_TARGET[name]
    repo.run("git checkout -q topic; git worktree add -q ../linked main")
    linked = repo.top.parent / "linked"
    repo.run(f"({script}) > ../said 2>&1", linked)
    before = repo.read_state(linked)
    found = repo.publish(repo.head_of("plain"))
    assert isinstance(found, Pending)
    assert f"in the middle of {what}" in found.reason
    assert str(linked) in found.reason
    expect_untouched(repo, before, linked)


@pytest.mark.parametrize("script", OF_ANOTHER.values(), ids=OF_ANOTHER.keys())
def test_what_goes_on_with_another_branch_is_not_concerned(repo: UserCheckout, script: str) -> None:
    repo.run(f"({script}) > ../said 2>&1")
    commit, before = repo.head_of("plain"), repo.read_state()
    assert repo.publish(commit) == Published(commit)
    after = repo.read_state()
    assert (after.files, after.entries) == (before.files, before.entries)
    assert repo.tip() == commit


LOCKS = {
    "index": ".git/index.lock",
    "HEAD": ".git/HEAD.lock",
    "branch": ".git/refs/heads/main.lock",
    "ORIG_HEAD": ".git/ORIG_HEAD.lock",
}


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS.keys())
def test_lock_of_another_command_is_waited_for_and_named(repo: UserCheckout, lock: str) -> None:
    """Git writes index and files first, and only then finds that it may not move the branch."""
    (repo.top / lock).touch()
    base, commit, before = repo.tip(), repo.head_of("plain"), repo.read_state()
    found = repo.publish(commit)
    assert isinstance(found, Pending)
    assert lock in found.reason
    expect_untouched(repo, before)
    (repo.top / lock).unlink()
    before = repo.read_state()
    assert repo.publish(commit) == Published(commit)
    expect_moved(repo, before, base, commit)


@pytest.mark.parametrize("lock", [".git/config.lock", ".git/packed-refs.lock", ".git/shallow.lock"])
def test_lock_that_a_fast_forward_does_not_need_is_no_hindrance(repo: UserCheckout, lock: str) -> None:
    (repo.top / lock).touch()
    base, commit, before = repo.tip(), repo.head_of("plain"), repo.read_state()
    assert repo.publish(commit) == Published(commit)
    expect_moved(repo, before, base, commit)
