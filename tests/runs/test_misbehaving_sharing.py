"""Agents that change git state shared with the user: reported in one line, kept, and never followed blindly."""

import checker
import pytest
from run_harness import Ground

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
async def test_what_an_agent_changes_of_what_is_shared_is_said_once(ground: Ground, deed: str) -> None:
    agent = f"common=$(git rev-parse --path-format=absolute --git-common-dir); work; [ $id = b ] || {{ {deed}; }}"
    ground.make({"a": {}, "b": {"depends_on": ["a"]}}, agent.replace("; work;", "; work --no-verify;"))
    ground.write_agent(f'commit() {{ git add -A && git commit -q --no-verify -m "$1"; }}\n{agent}')
    worked = await ground.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert [message for message in worked.view.messages if "Shared git state" in message] == [SAID.format(DEEDS[deed])]
    assert ground.trailer("Task") == "b"


async def test_pushing_with_upstream_and_working_as_usual_is_not_said(ground: Ground) -> None:
    ground.make({"a": {}, "b": {}}, "work; git config branch.feat/a.remote origin; git gc -q")
    worked = await ground.work()
    assert [message for message in worked.view.messages if "Shared git state" in message] == []


async def test_branch_and_tag_that_an_agent_deletes_are_kept(ground: Ground) -> None:
    ground.make({"a": {}}, "work; git branch -qD theirs; git tag -d v1 > /dev/null; git branch -qf moved HEAD")
    tip = ground.git.run("commit-tree", "main^{tree}", "-p", "main", "-m", "Theirs").text
    other = ground.git.run("commit-tree", "main^{tree}", "-p", "main", "-m", "Moved").text
    for name, commit in (("heads/theirs", tip), ("tags/v1", ground.at()), ("heads/moved", other)):
        ground.git.run("update-ref", f"refs/{name}", commit)
    worked = await ground.work()
    said = next(message for message in worked.view.messages if "Shared git state" in message)
    assert f"refs/heads/theirs (deleted, was {tip:.12}; it is kept at refs/coordinator/kept/heads-theirs/1)" in said
    assert f"refs/heads/moved (moved, was {other:.12}; it is kept at refs/coordinator/kept/heads-moved/1)" in said
    assert "refs/tags/v1 (deleted" in said
    assert ground.at("refs/coordinator/kept/heads-theirs/1") == tip
    assert ground.at("refs/coordinator/kept/heads-moved/1") == other


@pytest.mark.parametrize(("key", "value"), [("core.bare", "true"), ("core.worktree", "/nowhere")])
async def test_setting_that_hides_the_checkout_makes_publishing_wait(ground: Ground, key: str, value: str) -> None:
    ground.make({"a": {}}, f"work; git config {key} {value}")
    before = checker.snapshot_user_state(ground.top)
    worked = await ground.work()
    assert worked.names == {"a": "Merged"}
    assert f"{key} in .git/config changed while agents were running" in worked.pending
    ground.git.run("config", "--file", str(ground.top / ".git" / "config"), "--unset", "core.worktree", accept=(0, 5))
    ground.git.run("config", "--file", str(ground.top / ".git" / "config"), "core.bare", "false")
    meant = checker.Meant({"a": "completed"}, may_be_pending=True)
    assert checker.check(ground.top, before=before, meant=meant) == []
    assert ground.at() == before.commit
    await ground.work()
    assert ground.has("a.txt")
    assert (ground.top / "a.txt").read_text() == "a\n"
    assert ground.leftovers() == []
