"""Publishing into a checkout in every state: it moves exactly to the commit, or not one byte of the user's changes."""

import pytest
from matrix.checkout_states import HEADS, MOVED, UserCheckout, expect_moved, expect_untouched

from tasks_lib.git.publish.local_branch import Pending, Published

CLEAN = {f"clean, {name}": ("", name, MOVED) for name in HEADS}
CASES: dict[str, tuple[str, str, str]] = {
    **CLEAN,
    # The user's changes are elsewhere than what lands.
    "dirty elsewhere": ("echo x > mine.txt", "plain", MOVED),
    "deleted elsewhere": ("rm mine.txt", "plain", MOVED),
    "another mode elsewhere": ("chmod +x mine.txt", "plain", MOVED),
    "staged elsewhere": ("echo x > staged.txt; git add staged.txt; echo y > staged.txt", "plain", MOVED),
    "staged addition elsewhere": ("echo x > fresh.txt; git add fresh.txt", "plain", MOVED),
    "staged deletion elsewhere": ("git rm -q mine.txt", "plain", MOVED),
    "staged rename elsewhere": ("git mv mine.txt yours.txt", "plain", MOVED),
    "intent to add elsewhere": ("echo x > fresh.txt; git add -N fresh.txt", "plain", MOVED),
    "untracked elsewhere": ("echo x > fresh.txt; mkdir -p folder; echo y > folder/fresh.txt", "plain", MOVED),
    "ignored elsewhere": ("echo x > y.log; mkdir build; echo y > build/out", "plain", MOVED),
    "stashed": ("echo x > landed.txt; git stash -q", "plain", MOVED),
    "repository inside": ("git init -q inside; echo x > inside/x", "plain", MOVED),
    "empty folder where a file comes": ("mkdir added.txt", "plain", MOVED),
    # The user's changes are in the way of what lands.
    "dirty": ("echo x > landed.txt", "plain", "landed.txt"),
    "dirty with what lands": ("printf 'new\\n' > landed.txt", "plain", "landed.txt"),
    "dirty, where stashing is set": ("git config merge.autoStash true; echo x > landed.txt", "plain", "landed.txt"),
    "dirty link": ("ln -sf deep link", "plain", "link"),
    "dirty and deleted by what lands": ("echo x > gone.txt", "plain", "gone.txt"),
    "deleted": ("rm landed.txt", "plain", "landed.txt"),
    "deleted as by what lands": ("rm gone.txt", "plain", MOVED),
    "a folder in its repo": ("rm landed.txt; mkdir landed.txt; echo x > landed.txt/x", "plain", "landed.txt"),
    "staged": ("echo x > landed.txt; git add landed.txt", "plain", "landed.txt"),
    "staged, and put back": ("cp landed.txt k; echo x > landed.txt; git add landed.txt; mv k landed.txt", "plain",
                             "landed.txt"),
    "staged deletion": ("git rm -q landed.txt", "plain", "landed.txt"),
    "staged deletion as by what lands": ("git rm -q gone.txt", "plain", MOVED),
    "staged as what lands": ("printf 'new\\n' > landed.txt; git add landed.txt", "plain", MOVED),
    "staged as what lands, and changed": ("printf 'new\\n' > landed.txt; git add landed.txt; echo x > landed.txt",
                                          "plain", f"{MOVED} landed.txt"),
    "staged addition": ("echo x > added.txt; git add added.txt", "plain", "added.txt"),
    "intent to add": ("echo x > added.txt; git add -N added.txt", "plain", "added.txt"),
    "unmerged": (("git ls-files -s landed.txt | sed 's/ 0\\t/ 1\\t/;p;s/ 1\\t/ 2\\t/' > ../stages; "
                 "git rm -q --cached landed.txt; git update-index --index-info < ../stages"), "plain", "unmerged"),
    "untracked": ("echo x > added.txt", "plain", "added.txt"),
    "untracked with what lands": ("printf 'added\\n' > added.txt", "plain", "added.txt"),
    "untracked folder where a file comes": ("mkdir added.txt; echo x > added.txt/x", "plain", "added.txt"),
    "untracked file where a folder comes": ("echo x > folder", "plain", "folder"),
    "untracked link where a file comes": ("ln -s mine.txt added.txt", "plain", "added.txt"),
    "dangling link where a file comes": ("ln -s nowhere added.txt", "plain", "added.txt"),
    "link to a folder where a folder comes": ("mkdir ../out; ln -s ../out folder", "plain", "folder"),
    "repository where a file comes": ("git init -q added.txt", "plain", "added.txt"),
    "repository where a folder comes": ("git init -q folder; echo x > folder/new.txt", "plain", "folder"),
    "ignored": ("echo x > x.log", "ignored file", "x.log"),
    "ignored file in a folder": ("mkdir build; echo x > build/out.txt", "ignored folder", "build/out.txt"),
    "ignored file beside in a folder": ("mkdir build; echo x > build/mine", "ignored folder", MOVED),
    "ignored folder where a file comes": ("mkdir build; echo x > build/mine", "file like an ignored folder", "build"),
    "ignored file where a folder comes": ("echo x > x.log", "folder like an ignored file", "x.log"),
    "dirty in a folder that goes": ("echo x > deep/a.txt", "folder to file", "deep"),
    "untracked in a folder that goes": ("echo x > deep/mine", "folder to file", "deep"),
    "ignored in a folder that goes": ("echo x > deep/y.log", "folder to file", "deep"),
    "dirty file that becomes a folder": ("echo x > swap", "file to folder", "swap"),
    "dirty file that becomes a link": ("echo x > swap", "file to link", "swap"),
    "untracked of the new case": ("echo x > case.txt", "other case", "case.txt"),
    # The index hides the user's changes.
    "assumed unchanged, and unchanged": ("git update-index --assume-unchanged mine.txt", "plain", MOVED),
    "assumed unchanged, and changed": ("git update-index --assume-unchanged landed.txt; echo x > landed.txt", "plain",
                                       "landed.txt"),
    "skipped elsewhere": ("git update-index --skip-worktree mine.txt; echo x > mine.txt", "plain", MOVED),
    "skipped, and changed": ("git update-index --skip-worktree landed.txt; echo x > landed.txt", "plain",
                             "landed.txt"),
}  # fmt: skip
"""The user's state, as shell lines; which of HEADS lands; MOVED, or what the reason for waiting mentions."""


@pytest.mark.parametrize(("script", "head", "expected"), CASES.values(), ids=CASES.keys())
def test_checkout_is_moved_exactly_or_not_a_byte_changes(
    repo: UserCheckout, script: str, head: str, expected: str
) -> None:
    repo.run(script)
    base, commit, before = repo.tip(), repo.head_of(head), repo.read_state()
    found = repo.publish(commit)
    if expected.startswith(MOVED):
        assert found == Published(commit)
        expect_moved(repo, before, base, commit, kept=expected.removeprefix(MOVED).split())
    else:
        assert isinstance(found, Pending)
        assert any(word in found.reason for word in expected.split("|")), found.reason
        assert "\n" not in found.reason
        expect_untouched(repo, before)
