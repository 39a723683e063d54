"""Commits by others during a run: the base moves, and landed work is recreated on it."""

import asyncio
import fcntl
import os
from pathlib import Path

import pytest
import yaml
from run_harness import RunHarness, Tasks, reach, until

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import BusyError, InputError
from tasks_lib.git.repository_lock import admin_lock
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.settings.schema import digest_verify

WAIT = "[ $id = a ] || await go\nwork"
CHAIN: Tasks = {"a": {}, "b": {"depends_on": ["a"]}}


def block_publication(harness: RunHarness) -> None:
    """Put an uncommitted file of the user's where landed work has one."""
    (harness.top / "a.txt").write_text("mine\n")


async def test_person_commits_on_main_while_sessions_work_and_both_are_kept(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, "tell begun; await go; work", verify=["true"], signals=["begun", "go"])

    async def commit(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        harness.commit("By hand", {"hand.txt": "x\n"})
        harness.signals["go"].send(2)

    worked = await harness.work(during=commit)
    assert set(worked.names.values()) == {"Merged"}
    assert "By hand" in harness.log("%s")
    assert all(harness.has(path) for path in ("hand.txt", "a.txt", "b.txt"))
    assert worked.pending == ""
    assert harness.leftovers() == []


async def test_publication_waits_for_a_file_in_the_way_and_is_made_up_when_it_is_gone(harness: RunHarness) -> None:
    harness.make({"a": {}})
    block_publication(harness)
    worked = await harness.work()
    assert worked.code is ExitCode.COMPLETED
    assert "a.txt" in worked.pending
    assert (harness.top / "a.txt").read_text() == "mine\n"
    assert harness.log("%s") == ["Begin"]
    assert harness.log("%s", "refs/coordinator/queue/main") == ["Merge feat/a: Do a", "Begin"]
    (harness.top / "a.txt").unlink()
    again = await harness.work()
    assert again.outcomes == {}
    assert again.pending == ""
    assert harness.log("%s") == ["Merge feat/a: Do a", "Begin"]
    assert harness.leftovers() == []


async def test_what_a_killed_run_did_not_publish_is_published_while_the_next_one_works(harness: RunHarness) -> None:
    async def look(_: OpenRun) -> None:
        await until(lambda: harness.log("%s") == ["Landed", "Begin"])
        harness.signals["go"].send()

    harness.make({"a": {}}, "await go; work", signals=["go"])
    harness.commit("Landed", {"landed.txt": "x\n"})
    harness.git.run("update-ref", "refs/coordinator/queue/main", "HEAD")
    harness.git.run("reset", "--quiet", "--hard", "HEAD~")
    assert (await harness.work(during=look)).names == {"a": "Merged"}


async def test_unpublished_merge_is_made_again_and_verified_again_on_a_base_that_moved(harness: RunHarness) -> None:
    harness.make(
        CHAIN, WAIT, verify=[f"ls >> {harness.place}/verified; echo . >> {harness.place}/verified"], signals=["go"]
    )
    block_publication(harness)

    async def commit(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        harness.commit("By hand", {"hand.txt": "x\n"})
        await reach(opened, ": main moved: recreating 1 unpublished commits on it.")
        (harness.top / "a.txt").unlink()
        harness.signals["go"].send()

    worked = await harness.work(during=commit)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert harness.log("%s") == ["Merge feat/b: Do b", "Merge feat/a: Do a", "By hand", "Begin"]
    verified = [set(one.split()) for one in (harness.place / "verified").read_text().split("\n.\n")]
    assert any({"a.txt", "hand.txt"} <= paths and "b.txt" not in paths for paths in verified)
    assert harness.leftovers() == []


@pytest.mark.parametrize("now", [["true", "test -f README.md"], []])
async def test_merge_that_is_made_again_names_the_lines_that_verified_it_and_not_those_of_an_earlier_run(
    harness: RunHarness, now: list[str]
) -> None:
    harness.make({"a": {}}, verify=["true"])
    block_publication(harness)
    assert (await harness.work()).pending
    first = harness.trailer("Verified", "refs/coordinator/queue/main")
    assert first == digest_verify(load_project(harness.top, {}).settings)
    said = yaml.safe_load((harness.top / "coordinator.yaml").read_text())
    harness.commit("Verify otherwise", {"coordinator.yaml": yaml.safe_dump({**said, "verify": now})})
    (harness.top / "a.txt").unlink()
    assert (await harness.work()).pending == ""
    assert harness.log("%s") == ["Merge feat/a: Do a", "Verify otherwise", "Begin"]
    assert harness.trailer("Verified") == digest_verify(load_project(harness.top, {}).settings) != first


async def test_base_that_moves_again_while_merges_are_made_again_is_followed_as_well(harness: RunHarness) -> None:
    signals = harness.place / "signals"
    pause = f"echo > {signals}/verifying; read -r _ < {signals}/on"
    verify = f"[ ! -f hand.txt ] || [ -f {harness.place}/once ] || {{ : > {harness.place}/once; {pause}; }}"
    harness.make({"a": {}}, verify=[verify], signals=["verifying", "on"])
    block_publication(harness)

    async def commit(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        harness.commit("By hand", {"hand.txt": "x\n"})
        await harness.signals["verifying"].wait()
        harness.commit("Once more", {"more.txt": "x\n"})
        opened.run.git.head.base()  # Observers may read it at any moment.
        harness.signals["on"].send()
        (harness.top / "a.txt").unlink()
        await opened.base_follower.follow_base()
        await opened.publisher.publish_now()

    worked = await harness.work(during=commit)
    assert worked.pending == ""
    assert harness.log("%s") == ["Merge feat/a: Do a", "Once more", "By hand", "Begin"]


async def test_unpublished_merge_that_no_longer_fits_is_worked_again_from_its_branch(harness: RunHarness) -> None:
    resolve = "git merge -q $COORDINATOR_TARGET || :; echo both > a.txt; commit 'Resolve'"
    agent = f"[ $id = a ] && [ -f a.txt ] && {{ tell again; await resolve; {resolve}; exit 0; }}\n{WAIT}"
    harness.make({"a": {}, "b": {}}, agent, signals=["go", "again", "resolve"])
    block_publication(harness)

    async def commit(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        await opened.run.background.wait()
        harness.commit("By hand", {"a.txt": "by hand\n"})
        await harness.signals["again"].wait()
        assert opened.run.board.view.nodes["a"].outcome == ""
        assert harness.show("a.txt") == "by hand\n"
        assert harness.show("a.txt", "feat/a") == "a\n"
        assert "status: pending" in harness.show("tasks/a.md")
        harness.signals["resolve"].send()
        await reach(opened, "a: Merged")
        harness.signals["go"].send()

    worked = await harness.work(during=commit)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert worked.started == ["a", "b", "a"]
    assert "a: its merge was undone" in worked.lines
    assert worked.view.nodes["a"].commit in harness.log("%H")
    assert worked.code is ExitCode.COMPLETED
    assert harness.show("a.txt") == "both\n"
    assert harness.leftovers() == []


async def test_work_taken_back_while_its_branch_is_being_deleted_is_not_lost(harness: RunHarness) -> None:
    """The worktree is released under the lock held here, so the branch is deleted after the merge was undone."""
    agent = (
        "[ -f a.txt ] && { git commit -q --allow-empty -m 'blocked(a): not now'; exit 0; }\ntell begun; await go; work"
    )
    harness.make({"a": {}}, agent, signals=["begun", "go"])
    block_publication(harness)

    async def commit(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        with admin_lock(opened.run.git.repository):
            harness.signals["go"].send()
            await until(lambda: opened.run.git.head.current() != harness.at())
            harness.commit("By hand", {"a.txt": "by hand\n"})
            await opened.base_follower.follow_base()
        await opened.run.background.wait()

    await harness.work(during=commit)
    assert harness.show("a.txt") == "by hand\n"
    assert harness.show("a.txt", "feat/a") == "a\n"


async def test_base_that_was_rewritten_under_what_was_published_stops_landing(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, WAIT, signals=["go"])

    async def rewrite(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        await opened.publisher.publish_now()
        await opened.base_follower.follow_base()
        harness.git.run("commit", "--amend", "--quiet", "-m", "Rewritten")
        harness.signals["go"].send()

    worked = await harness.work(during=rewrite)
    assert worked.names == {"a": "Merged", "b": "Failed"}
    assert "main was rewritten" in worked.view.nodes["b"].reason
    assert harness.log("%s")[0] == "Rewritten"
    assert harness.show("b.txt", "feat/b") == "b\n"


async def test_second_coordinator_on_a_repository_is_refused_and_does_no_harm(harness: RunHarness) -> None:
    harness.make({"a": {}}, "tell begun; await go; work", signals=["begun", "go"])

    async def start_another(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        with pytest.raises(BusyError, match=opened.run.id):
            await harness.work()
        harness.signals["go"].send()

    assert (await harness.work(during=start_another)).names == {"a": "Merged"}
    assert harness.journal.turns() == ["a-1-1"]


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux says who waits for a lock")
async def test_worktrees_are_made_only_under_the_lock_of_their_administration(harness: RunHarness) -> None:
    """Without it, one parallel `git worktree add` in ten fails."""
    harness.make({"a": {}})

    async def hold(opened: OpenRun) -> None:
        merged = asyncio.ensure_future(reach(opened, "a: Merged"))
        with (opened.run.git.repository.state_dir / "worktrees.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            inode = os.fstat(lock.fileno()).st_ino
            await until(lambda: merged.done() or is_waited_for(inode))
            assert not merged.done()
            assert not (harness.top / ".worktrees" / "feat").exists()
        await merged

    assert (await harness.work(during=hold)).names == {"a": "Merged"}


def is_waited_for(inode: int) -> bool:
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and line.split()[6].endswith(f":{inode}") for line in lines)


async def test_task_files_that_break_while_the_run_lives_are_an_error_with_every_fault(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, "tell begun; await go; work", signals=["begun", "go"])

    async def break_one(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        broken = harness.commit("Break", {"tasks/b.md": harness.show("tasks/b.md").replace("pending", "perhaps")})
        with pytest.raises(InputError, match=r"tasks/b\.md:4"):
            opened.run.nodes.read_graph_at(broken)
        harness.git.run("revert", "--no-edit", "HEAD")
        harness.signals["go"].send(2)

    assert set((await harness.work(during=break_one)).names.values()) == {"Merged"}


async def test_target_may_be_a_branch_that_is_not_checked_out(harness: RunHarness) -> None:
    harness.make({"a": {}}, target="work")
    harness.git.run("branch", "work")
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.log("%s", "work") == ["Merge feat/a: Do a", "Begin"]
    assert harness.log("%s") == ["Begin"]
