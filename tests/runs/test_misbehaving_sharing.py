"""Agents that change git state shared with the user: reported in one line, kept, and never followed blindly."""

import checker
import pytest
from run_harness import RunHarness

SAID = "Shared git state changed while a was running: {}. Please check it; the run continues."
DEEDS = {
    "git config filter.x.smudge evil; git config alias.st status": "alias.st in .git/config, filter.x.smudge in .git/config",
    "git config core.sshCommand evil": "core.sshcommand in .git/config",
    "echo '*.txt filter=x' > $common/info/attributes": ".git/info/attributes",
    "echo '#' >> $common/info/exclude": ".git/info/exclude",
    "mkdir -p $common/hooks; echo exit 1 > $common/hooks/commit-msg; chmod +x $common/hooks/commit-msg": ".git/hooks/commit-msg",
    ": > $common/info/grafts": ".git/info/grafts",
    "echo s > s.txt; git stash -qu": "refs/stash (created)",
    "git branch mine": "refs/heads/mine (created)",
}


@pytest.mark.parametrize("deed", DEEDS)
async def test_what_an_agent_changes_of_what_is_shared_is_said_once(harness: RunHarness, deed: str) -> None:
    agent = f"common=$(git rev-parse --path-format=absolute --git-common-dir); work; [ $id = b ] || {{ {deed}; }}"
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, agent.replace("; work;", "; work --no-verify;"))
    harness.write_agent(f'commit() {{ git add -A && git commit -q --no-verify -m "$1"; }}\n{agent}')
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert [message for message in worked.view.messages if "Shared git state" in message] == [SAID.format(DEEDS[deed])]
    assert harness.trailer("Task") == "b"


async def test_pushing_with_upstream_and_working_as_usual_is_not_said(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, "work; git config branch.feat/a.remote origin; git gc -q")
    worked = await harness.work()
    assert [message for message in worked.view.messages if "Shared git state" in message] == []


async def test_branch_and_tag_that_an_agent_deletes_are_kept(harness: RunHarness) -> None:
    harness.make({"a": {}}, "work; git branch -qD theirs; git tag -d v1 > /dev/null; git branch -qf moved HEAD")
    tip = harness.git.run("commit-tree", "main^{tree}", "-p", "main", "-m", "Theirs").text
    other = harness.git.run("commit-tree", "main^{tree}", "-p", "main", "-m", "Moved").text
    for name, commit in (("heads/theirs", tip), ("tags/v1", harness.at()), ("heads/moved", other)):
        harness.git.run("update-ref", f"refs/{name}", commit)
    worked = await harness.work()
    said = next(message for message in worked.view.messages if "Shared git state" in message)
    assert f"refs/heads/theirs (deleted, was {tip:.12}; it is kept at refs/coordinator/kept/heads-theirs/1)" in said
    assert f"refs/heads/moved (moved, was {other:.12}; it is kept at refs/coordinator/kept/heads-moved/1)" in said
    assert "refs/tags/v1 (deleted" in said
    assert harness.at("refs/coordinator/kept/heads-theirs/1") == tip
    assert harness.at("refs/coordinator/kept/heads-moved/1") == other


@pytest.mark.parametrize(("key", "value"), [("core.bare", "true"), ("core.worktree", "/nowhere")])
async def test_setting_that_hides_the_checkout_makes_publishing_wait(harness: RunHarness, key: str, value: str) -> None:
    harness.make({"a": {}}, f"work; git config {key} {value}")
    before = checker.snapshot_user_state(harness.top)
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    assert f"{key} in .git/config changed while agents were running" in worked.pending
    harness.git.run("config", "--file", str(harness.top / ".git" / "config"), "--unset", "core.worktree", accept=(0, 5))
    harness.git.run("config", "--file", str(harness.top / ".git" / "config"), "core.bare", "false")
    meant = checker.Meant({"a": "completed"}, may_be_pending=True)
    assert checker.check(harness.top, before=before, meant=meant) == []
    assert harness.at() == before.commit
    await harness.work()
    assert harness.has("a.txt")
    assert (harness.top / "a.txt").read_text() == "a\n"
    assert harness.leftovers() == []


CHECKOUT = {
    "a file that is written": ("echo x > $top/mine.txt", "mine.txt"),
    "a file that is edited": ("echo x >> $top/README.md", "README.md"),
    "another branch": ("git -C $top checkout -q -b other", "its branch (main → other)"),
}


@pytest.mark.parametrize("name", CHECKOUT)
async def test_what_changes_in_the_users_checkout_is_said_and_the_agent_is_told(harness: RunHarness, name: str) -> None:
    deed, changed = CHECKOUT[name]
    harness.make(
        {"a": {}}, f"top=$(cd ../../..; pwd)\nif [ $turn = 1 ]; then {deed}; else work; fi", files={"README.md": "r\n"}
    )
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    (said,) = [message for message in worked.view.messages if "Your checkout changed" in message]
    assert f"while a was running: {changed}. If that was not you" in said
    told = harness.journal.read("a-1-2")
    assert f"the user's checkout changed: {changed}" in told
    assert "Work only in your worktree" in told


async def test_users_own_uncommitted_work_and_added_tasks_are_not_said(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {"depends_on": ["a"]}}, "work; echo x > $(cd ../../..; pwd)/tasks/new.md")
    (harness.top / "mine.txt").write_text("mine\n")
    worked = await harness.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert [message for message in worked.view.messages if "Your checkout changed" in message] == []
