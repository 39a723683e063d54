"""Landing on a remote: the graph is read from there, and nothing but the head is pushed."""

import asyncio

from push.remote_harness import RemoteHarness, completed, run_quietly
from run_harness import write_task

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.git.runner import Git


async def test_work_lands_on_the_remote_and_the_local_branch_comes_along(shared: RemoteHarness) -> None:
    shared.make({"a": {}, "b": {"depends_on": ["a"]}}, verify=["test -f README.md"])
    worked = await shared.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert (worked.pending, worked.code) == ("", 0)
    assert shared.hub_log() == ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]
    assert shared.at() == shared.hub.text("rev-parse", "main") == shared.at("origin/main")
    assert shared.judge(completed("a", "b"), verify=["test -f README.md"]) == []
    assert shared.leftovers() == []


async def test_graph_and_branch_points_come_from_the_remote_and_not_from_the_local_branch(
    shared: RemoteHarness,
) -> None:
    shared.make({"a": {}}, "git log --format=%s > ../seen; work")
    shared.join("ann").share("Plan", {"tasks/b.md": write_task("b")})
    shared.commit("Not pushed", {"tasks/c.md": write_task("c")})
    worked = await shared.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert not shared.hub_has("tasks/c.md")
    said = [line for line in worked.view.messages if "main is 1 commit ahead of origin/main" in line]
    assert len(said) == 1
    assert "`git push origin refs/heads/main`" in said[0]
    assert "Not pushed" not in shared.hub.text("log", "--format=%s", "--all")
    assert shared.log("%s")[0] == "Not pushed"
    assert sum("The local main was not updated" in line for line in worked.lines) == 1
    assert worked.pending == ""


async def test_nothing_is_pushed_unless_the_configuration_says_so(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, land={"mode": "local"})
    worked = await shared.work()
    assert worked.names == {"a": "Merged"}
    assert shared.hub_log() == ["Begin"]
    assert shared.log("%s")[0] == "Merge feat/a: Do a"


async def test_local_changes_in_the_way_keep_the_local_branch_and_not_the_remote(shared: RemoteHarness) -> None:
    shared.make({"a": {}, "b": {"depends_on": ["a"]}})
    (shared.top / "a.txt").write_text("mine\n")
    worked = await shared.work()
    assert (worked.pending, worked.code) == ("", 0)
    assert shared.hub_log() == ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]
    assert (shared.top / "a.txt").read_text() == "mine\n"
    assert shared.log("%s") == ["Begin"]
    assert sum("The local main was not updated" in line for line in worked.lines) == 1
    assert shared.leftovers() == []


async def test_target_need_not_be_checked_out_nor_be_there_at_all(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, target="main")
    shared.git.run("switch", "--quiet", "-c", "mine")
    shared.git.run("branch", "-D", "main")
    assert (await shared.work()).names == {"a": "Merged"}
    assert shared.hub_log()[0] == "Merge feat/a: Do a"
    assert shared.log("%s") == ["Begin"]
    assert shared.leftovers() == ["refs/heads/mine"]


CONFIGURATIONS = {
    "push.default": "matching",
    "push.followTags": "true",
    "remote.pushDefault": "elsewhere",
    "remote.origin.mirror": "true",
    "push.gpgSign": "true",
    "push.recurseSubmodules": "only",
    "fetch.prune": "true",
    "fetch.recurseSubmodules": "true",
    "remote.origin.tagOpt": "--tags",
    "remote.origin.push": "+refs/heads/*:refs/heads/*",
    "remote.origin.fetch": "+refs/*:refs/*",
}


async def test_settings_of_git_change_nothing_of_what_is_fetched_and_pushed(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, "tell begun; await go; work", signals=["begun", "go"])
    ann = shared.join("ann")
    ann.git.run("tag", "v1")
    ann.git.run("push", "--quiet", "origin", "v1", "main:refs/heads/hers")
    shared.git.run("branch", "mine")
    shared.git.run("tag", "-a", "-m", "x", "mine-too")
    for key, value in CONFIGURATIONS.items():
        shared.git.run("config", "--replace-all", key, value)

    async def share(opened: OpenRun) -> None:
        await shared.signals["begun"].wait()
        await asyncio.to_thread(ann.share, "By Ann", {"ann.txt": "x\n"})
        shared.signals["go"].send()

    assert (await shared.work(during=share)).names == {"a": "Merged"}
    assert shared.hub_log() == ["Merge feat/a: Do a", "By Ann", "Begin"]
    assert shared.hub_branches() == ["hers", "main", "v1"]
    refs = shared.git.text("for-each-ref", "--format=%(refname)").splitlines()
    assert refs == ["refs/heads/main", "refs/heads/mine", "refs/remotes/origin/main", "refs/tags/mine-too"]


async def test_remote_may_have_another_name_and_an_address_that_is_rewritten(shared: RemoteHarness) -> None:
    shared.name = "hub"
    shared.make({"a": {}})
    shared.git.run("remote", "set-url", "hub", "work:hub.git")
    shared.git.run("config", f"url.file://{shared.place}/.insteadOf", "work:")
    assert (await shared.work()).names == {"a": "Merged"}
    assert shared.hub_log()[0] == "Merge feat/a: Do a"
    assert shared.leftovers() == []


async def test_shallow_clone_lands_as_any_other(shared: RemoteHarness) -> None:
    shared.make({"a": {}})
    for number in range(3):
        shared.join(f"p{number}").share(f"Commit {number}", {f"{number}.txt": "x\n"})
    shared.top.rename(shared.place / "full")
    run_quietly("git", "clone", "-q", "--depth=1", shared.url, str(shared.top))
    shared.git.run("config", "user.name", "Ada")
    shared.git.run("config", "user.email", "ada@example.org")
    assert (await shared.work()).names == {"a": "Merged"}
    assert shared.hub_log() == ["Merge feat/a: Do a", "Commit 2", "Commit 1", "Commit 0", "Begin"]
    assert shared.leftovers() == []


async def test_checkout_without_any_branch_lands_on_the_target_that_it_names(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, target="main")
    shared.git.run("checkout", "--quiet", "--detach")
    shared.git.run("branch", "-D", "main")
    assert (await shared.work()).names == {"a": "Merged"}
    assert shared.hub_log() == ["Merge feat/a: Do a", "Begin"]


async def test_branch_that_an_agent_pushed_goes_when_it_has_landed_and_stays_when_it_holds_more(
    shared: RemoteHarness,
) -> None:
    push = "git push -q -u origin HEAD"
    more = "git push -q origin $(git commit-tree -p HEAD -m more HEAD^{tree}):refs/heads/feat/b"
    shared.make({"a": {}, "b": {}}, f"work; [ $id = a ] && {push} || {more}")
    shared.join("ann").git.run("push", "--quiet", "origin", "main:refs/heads/feat/other")
    worked = await shared.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert shared.hub_branches() == ["feat/b", "feat/other", "main"]
    assert sum("keeps feat/b, because it has commits that did not land" in line for line in worked.lines) == 1
    assert shared.git.run("config", "--get-regexp", "^branch", accept=(0, 1)).text == ""


async def test_branch_on_the_remote_that_may_not_be_deleted_is_said_and_stops_nothing(shared: RemoteHarness) -> None:
    shared.make({"a": {}}, "work; git push -q origin HEAD")
    shared.hub.run("config", "receive.denyDeletes", "true")
    worked = await shared.work()
    assert (worked.names, worked.pending, worked.code) == ({"a": "Merged"}, "", 0)
    assert any(line.startswith("origin still has feat/a, which has landed: error: denying") for line in worked.lines)


async def test_commit_of_a_submodule_has_to_be_on_its_remote_before_others_get_the_pointer(
    shared: RemoteHarness,
) -> None:
    agent = (
        '[ "$turn" != 2 ] || { git -C lib push -q origin HEAD:refs/heads/two; echo Pushed.; exit 0; };'
        "cd lib; git config user.name A; git config user.email a@b; echo 2 >> x; git commit -q -a -m two; cd ..;"
        "git add lib; git commit -q -m point; echo Done."
    )
    fill = "git -c protocol.file.allow=always submodule --quiet update --init"
    shared.make({"a": {}}, agent, setup=[fill], verify=["test -f lib/x"])
    library = shared.place / "library"
    library.mkdir()
    git = Git(library)
    git.run("init", "--quiet", "--initial-branch=main")
    git.run("-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "Zero")
    (library / "x").write_text("1\n")
    git.run("add", "x")
    git.run("-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "-m", "One")
    shared.git.run("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library), "lib")
    shared.git.run("commit", "--quiet", "-m", "Lib")
    shared.git.run("push", "--quiet", "origin", "main")
    worked = await shared.work()
    assert worked.names == {"a": "Merged"}, worked.lines
    assert shared.journal.turns() == ["a-1-1", "a-1-2"]
    assert "a commit that is not on any remote of the submodule" in shared.journal.read("a-1-2")
    assert shared.hub.text("rev-parse", "main:lib") == git.text("rev-parse", "two")
