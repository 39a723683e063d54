"""People and spawned tasks with `land.mode: push`: what they take, let land and spawn is on the remote in the end."""

from persons_commands import commit_by_hand, permit, take
from push.remote_harness import RemoteHarness, completed
from run_harness import reach

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.landing.report_commit import commit_report
from tasks_lib.landing.spawning import SpawnOrder, spawn_in_run
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode

PART = "---\nid: part\nname: Do part\n---\n## Description\nWrite it.\n"
ALL = ("asked", "design", "lead", "part")


async def test_taken_asked_and_spawned_work_lands_on_the_remote_while_others_push(shared: RemoteHarness) -> None:
    async def spawn(opened: OpenRun) -> None:
        await shared.signals["began"].wait()
        await spawn_in_run(opened.run, opened.merge_queue, SpawnOrder(PART, spawner="lead", session="s1"))
        await reach(opened, "part: session")
        shared.signals["go"].send()

    shared.make(
        {"asked": {}, "design": {"assignee": "human"}, "lead": {}},
        "[ $id = lead ] && { tell began; await go; }\nwork",
        signals=["began", "go"], verify=["true"], land={"ask": True}, spawn={"enabled": True},
    )  # fmt: skip
    other = shared.join("other")
    first = other.share("By another person", {"shared.txt": "theirs\n"})
    said = take(shared, "design")
    assert said.startswith("design is yours")
    commit_by_hand(shared, "design", "design.md", "Round.\n")
    assert (shared.top / ".worktrees/feat/design/shared.txt").exists(), "it begins at the remote's commit"

    waited = await shared.work(during=spawn)

    assert (set(waited.names.values()), waited.code, waited.pending) == ({"Waiting"}, ExitCode.WAITING, "")
    assert shared.hub_log() == ["spawned(part): Do part", "By another person", "Begin"]
    second = other.share("By another person again", {"shared.txt": "theirs again\n"})
    for name in ALL:
        permit(shared, name)
    third = other.share("And again", {"shared.txt": "and again\n"})
    landed = await shared.work()
    report = commit_report(load_project(shared.top, {}, is_fetching=True), "r1", "docs/aar/r1.md", "# Report\n")

    assert (landed.names, landed.code, landed.pending) == (dict.fromkeys(ALL, "Merged"), ExitCode.COMPLETED, "")
    assert report.pending == ""
    assert shared.hub_log("%an")[1:5].count("Ada") == 4, "merges are coordinator's, commits those of who made them"
    assert "Ann" in shared.hub.text("log", "--format=%an", "main").splitlines()
    assert shared.at() == shared.at_hub("main")
    assert shared.judge(completed(*ALL), verify=["true"], foreign=[first, second, third]) == []
    assert shared.leftovers() == []
    assert len(shared.journal.turns()) == 3


async def test_persons_work_that_conflicts_on_the_remote_comes_back_and_lands_when_resolved(
    shared: RemoteHarness,
) -> None:
    shared.make({"design": {"assignee": "human"}}, files={"shop.txt": "old\n"})
    take(shared, "design")
    commit_by_hand(shared, "design", "shop.txt", "mine\n")
    other = shared.join("other").share("By another person", {"shop.txt": "theirs\n"})
    permit(shared, "design")
    back = await shared.work()
    assert back.names == {"design": "Waiting"}
    assert "merge origin/main into it, and resolve that" in back.view.nodes["design"].reason
    shared.git.run("-C", ".worktrees/feat/design", "merge", "-q", "-s", "ours", "--no-commit", "origin/main")
    commit_by_hand(shared, "design", "shop.txt", "mine and theirs\n")
    permit(shared, "design")
    assert (await shared.work()).names == {"design": "Merged"}
    assert shared.hub.text("show", "main:shop.txt") == "mine and theirs"
    assert shared.judge(completed("design"), foreign=[other]) == []
    assert shared.leftovers() == []
