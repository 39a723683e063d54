"""Whole runs while the user changes the target: nothing is lost, the change is reported, and a rerun continues."""

import pytest
from matrix.test_matrix_settings import unwritable
from run_harness import RunHarness, Tasks

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import InputError
from tasks_lib.reporting.run_report import ExitCode

CHAIN: Tasks = {"a": {}, "b": {"depends_on": ["a"]}}
WAIT = "[ $id = a ] || { tell begun; await go; }\nwork"
LANDED = ["Merge feat/b: Do b", "Merge feat/a: Do a", "Begin"]


async def begin(harness: RunHarness, opened: OpenRun) -> None:
    """Return when a has landed, the base has been checked, and b is running."""
    await harness.signals["begun"].wait()
    await opened.base_follower.follow_base()


async def test_person_who_switches_to_another_branch_keeps_it_and_the_target_moves(harness: RunHarness) -> None:
    harness.make(CHAIN, WAIT, signals=["begun", "go"])

    async def switch(opened: OpenRun) -> None:
        await begin(harness, opened)
        harness.git.run("checkout", "--quiet", "-b", "mine", "main~0")
        (harness.top / "README.md").write_text("mine\n")
        harness.signals["go"].send()

    worked = await harness.work(during=switch)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert worked.pending == ""
    assert harness.log("%s", "main") == LANDED
    assert harness.git.text("status", "--porcelain", "--branch") == "## mine\n M README.md"
    assert (harness.top / "README.md").read_text() == "mine\n"


@pytest.mark.parametrize("is_published", [True, False])
async def test_target_that_is_renamed_stops_landing_and_a_rerun_goes_on_once_it_is_back(
    harness: RunHarness, is_published: bool
) -> None:
    harness.make(CHAIN, WAIT, signals=["begun", "go"])
    if not is_published:
        (harness.top / "a.txt").write_text("in the way\n")

    async def rename(opened: OpenRun) -> None:
        await begin(harness, opened)
        await opened.publisher.publish_now()
        harness.git.run("branch", "--move", "main", "trunk")
        harness.signals["go"].send()

    worked = await harness.work(during=rename)
    assert worked.names == {"a": "Merged", "b": "Failed"}
    assert "does not exist" in worked.view.nodes["b"].reason
    assert worked.code is ExitCode.BLOCKED
    assert harness.show("b.txt", "feat/b") == "b\n"
    assert not harness.git.succeeds("show-ref", "--quiet", "refs/heads/main")
    assert harness.log("%s", "trunk")[-1] == "Begin"
    (harness.top / "a.txt").unlink()
    harness.git.run("reset", "--quiet", "--hard")
    harness.git.run("branch", "--move", "trunk", "main")
    again = await harness.work()
    assert again.names == {"b": "Merged"}
    assert harness.log("%s", "main") == LANDED
    assert harness.journal.turns() == ["a-1-1", "b-1-1"]
    assert harness.leftovers() == []


async def test_target_that_is_rewritten_under_what_waits_loses_nothing_and_says_the_ways_out(
    harness: RunHarness,
) -> None:
    harness.make(CHAIN, WAIT, signals=["begun", "go"])
    first = harness.commit("By hand", {"hand.txt": "x\n"})
    (harness.top / "a.txt").write_text("in the way\n")

    async def amend(opened: OpenRun) -> None:
        await begin(harness, opened)
        harness.git.run("commit", "--amend", "--quiet", "-m", "Rewritten")
        harness.signals["go"].send()

    worked = await harness.work(during=amend)
    assert worked.names == {"a": "Merged", "b": "Failed"}
    assert "main was rewritten" in worked.view.nodes["b"].reason
    assert harness.show("a.txt", "refs/coordinator/queue/main") == "a\n"
    assert harness.show("b.txt", "feat/b") == "b\n"
    with pytest.raises(InputError) as caught:
        await harness.work()
    assert f"git merge {first}`" in str(caught.value)
    assert "git update-ref -d refs/coordinator/queue/main" in str(caught.value)
    assert harness.log("%s", "main") == ["Rewritten", "Begin"]
    (harness.top / "a.txt").unlink()
    harness.git.run("merge", "--quiet", "--no-edit", first[:12])
    again = await harness.work()
    assert again.names == {"b": "Merged"}
    assert (again.pending, again.code) == ("", ExitCode.COMPLETED)
    assert harness.show("a.txt") == "a\n"
    assert harness.show("b.txt") == "b\n"
    assert harness.journal.turns() == ["a-1-1", "b-1-1"]
    assert harness.leftovers() == []


async def test_target_that_was_rewritten_under_what_was_published_is_followed_by_the_next_run(
    harness: RunHarness,
) -> None:
    harness.make(CHAIN, WAIT, signals=["begun", "go"])

    async def throw_away(opened: OpenRun) -> None:
        await begin(harness, opened)
        await opened.publisher.publish_now()
        await opened.base_follower.follow_base()
        harness.git.run("reset", "--quiet", "--hard", "main~1")
        harness.signals["go"].send()

    worked = await harness.work(during=throw_away)
    # A commit that is not on the target has not landed, even if it had before.
    assert worked.names == {"a": "Failed", "b": "Failed"}
    assert "main was rewritten" in worked.view.nodes["b"].reason
    assert harness.log("%s") == ["Begin"]
    again = await harness.work()
    assert again.names == {"a": "Merged", "b": "Merged"}
    assert harness.log("%s") == LANDED
    assert harness.leftovers() == []


async def test_dirty_checkout_ends_well_and_after_a_stash_the_next_run_publishes(harness: RunHarness) -> None:
    harness.make(CHAIN, "work; [ $id = a ] || { echo new > README.md; commit More; }")
    (harness.top / "README.md").write_text("mine\n")
    worked = await harness.work()
    assert worked.code is ExitCode.COMPLETED
    # If b lands later, a's work is published at once, since it does not touch README.md.
    assert harness.log("%s") in (LANDED[1:], ["Begin"])
    assert "README.md" in worked.pending
    assert (harness.top / "README.md").read_text() == "mine\n"
    assert harness.leftovers() == ["refs/coordinator/queue/main"]
    harness.git.run("stash", "--quiet")
    again = await harness.work()
    assert (again.outcomes, again.pending) == ({}, "")
    assert harness.log("%s") == LANDED
    assert harness.git.text("stash", "list").startswith("stash@{0}")
    harness.git.run("update-ref", "-d", "refs/stash")
    assert harness.leftovers() == []


async def test_repository_that_cannot_be_written_is_refused_and_nothing_is_made(harness: RunHarness) -> None:
    harness.make(CHAIN)
    with unwritable(harness.top / ".git"), pytest.raises(InputError, match="cannot be written"):
        await harness.work()
    assert harness.leftovers() == []
    assert harness.journal.turns() == []
