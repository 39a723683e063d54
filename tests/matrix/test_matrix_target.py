"""Whole runs while the user changes the target: nothing is lost, the change is reported, and a rerun continues."""

import pytest
from matrix.test_matrix_settings import unwritable
from run_harness import Ground, Tasks

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.reporting.run_report import ExitCode

CHAIN: Tasks = {"a": {}, "b": {"depends_on": ["a"]}}
WAIT = "[ $id = a ] || { tell begun; await go; }\nwork"
LANDED = ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]


async def begin(ground: Ground, opened: OpenRun) -> None:
    """Return when a has landed, the base has been checked, and b is running."""
    await ground.signals["begun"].wait()
    await opened.base_follower.follow_base()


async def test_person_who_switches_to_another_branch_keeps_it_and_the_target_moves(ground: Ground) -> None:
    ground.make(CHAIN, WAIT, signals=["begun", "go"])

    async def switch(opened: OpenRun) -> None:
        await begin(ground, opened)
        ground.git.run("checkout", "--quiet", "-b", "mine", "main~0")
        (ground.top / "README.md").write_text("mine\n")
        ground.signals["go"].send()

    worked = await ground.work(during=switch)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert worked.pending == ""
    assert ground.log("%s", "main") == LANDED
    assert ground.git.text("status", "--porcelain", "--branch") == "## mine\n M README.md"
    assert (ground.top / "README.md").read_text() == "mine\n"


@pytest.mark.parametrize("is_published", [True, False])
async def test_target_that_is_renamed_stops_landing_and_a_rerun_goes_on_once_it_is_back(
    ground: Ground, is_published: bool
) -> None:
    ground.make(CHAIN, WAIT, signals=["begun", "go"])
    if not is_published:
        (ground.top / "a.txt").write_text("in the way\n")

    async def rename(opened: OpenRun) -> None:
        await begin(ground, opened)
        await opened.publisher.publish_now()
        ground.git.run("branch", "--move", "main", "trunk")
        ground.signals["go"].send()

    worked = await ground.work(during=rename)
    assert worked.names == {"a": "Merged", "b": "Failed"}
    assert "does not exist" in worked.view.nodes["b"].reason
    assert worked.code is ExitCode.BLOCKED
    assert ground.show("b.txt", "feat/b") == "b\n"
    assert not ground.git.succeeds("show-ref", "--quiet", "refs/heads/main")
    assert ground.log("%s", "trunk")[-1] == "Begin"
    (ground.top / "a.txt").unlink()
    ground.git.run("reset", "--quiet", "--hard")
    ground.git.run("branch", "--move", "trunk", "main")
    again = await ground.work()
    assert again.names == {"b": "Merged"}
    assert ground.log("%s", "main") == LANDED
    assert ground.turns() == ["a-1-1", "b-1-1"]
    assert ground.leftovers() == []


async def test_target_that_is_rewritten_under_what_waits_loses_nothing_and_says_the_ways_out(ground: Ground) -> None:
    ground.make(CHAIN, WAIT, signals=["begun", "go"])
    first = ground.commit("By hand", {"hand.txt": "x\n"})
    (ground.top / "a.txt").write_text("in the way\n")

    async def amend(opened: OpenRun) -> None:
        await begin(ground, opened)
        ground.git.run("commit", "--amend", "--quiet", "-m", "Rewritten")
        ground.signals["go"].send()

    worked = await ground.work(during=amend)
    assert worked.names == {"a": "Merged", "b": "Failed"}
    assert "main was rewritten" in worked.view.nodes["b"].reason
    assert ground.show("a.txt", "refs/coordinator/queue/main") == "a\n"
    assert ground.show("b.txt", "feat/b") == "b\n"
    with pytest.raises(InputError) as caught:
        await ground.work()
    assert f"git merge {first}`" in str(caught.value)
    assert "git update-ref -d refs/coordinator/queue/main" in str(caught.value)
    assert ground.log("%s", "main") == ["Rewritten", "Begin"]
    (ground.top / "a.txt").unlink()
    ground.git.run("merge", "--quiet", "--no-edit", first[:12])
    again = await ground.work()
    assert again.names == {"b": "Merged"}
    assert (again.pending, again.code) == ("", ExitCode.COMPLETED)
    assert ground.show("a.txt") == "a\n"
    assert ground.show("b.txt") == "b\n"
    assert ground.turns() == ["a-1-1", "b-1-1"]
    assert ground.leftovers() == []


async def test_target_that_was_rewritten_under_what_was_published_is_followed_by_the_next_run(ground: Ground) -> None:
    ground.make(CHAIN, WAIT, signals=["begun", "go"])

    async def throw_away(opened: OpenRun) -> None:
        await begin(ground, opened)
        await opened.publisher.publish_now()
        await opened.base_follower.follow_base()
        ground.git.run("reset", "--quiet", "--hard", "main~1")
        ground.signals["go"].send()

    worked = await ground.work(during=throw_away)
    # A commit that is not on the target has not landed, even if it had before.
    assert worked.names == {"a": "Failed", "b": "Failed"}
    assert "main was rewritten" in worked.view.nodes["b"].reason
    assert ground.log("%s") == ["Begin"]
    again = await ground.work()
    assert again.names == {"a": "Merged", "b": "Merged"}
    assert ground.log("%s") == LANDED
    assert ground.leftovers() == []


async def test_dirty_checkout_ends_well_and_after_a_stash_the_next_run_publishes(ground: Ground) -> None:
    ground.make(CHAIN, "work; [ $id = a ] || { echo new > README.md; commit More; }")
    (ground.top / "README.md").write_text("mine\n")
    worked = await ground.work()
    assert worked.code is ExitCode.COMPLETED
    # If b lands later, a's work is published at once, since it does not touch README.md.
    assert ground.log("%s") in (LANDED[1:], ["Begin"])
    assert "README.md" in worked.pending
    assert (ground.top / "README.md").read_text() == "mine\n"
    assert ground.leftovers() == ["refs/coordinator/queue/main"]
    ground.git.run("stash", "--quiet")
    again = await ground.work()
    assert (again.outcomes, again.pending) == ({}, "")
    assert ground.log("%s") == LANDED
    assert ground.git.text("stash", "list").startswith("stash@{0}")
    ground.git.run("update-ref", "-d", "refs/stash")
    assert ground.leftovers() == []


async def test_repository_that_cannot_be_written_is_refused_and_nothing_is_made(ground: Ground) -> None:
    ground.make(CHAIN)
    with unwritable(ground.top / ".git"), pytest.raises(InputError, match="cannot be written"):
        await ground.work()
    assert ground.leftovers() == []
    assert ground.turns() == []
