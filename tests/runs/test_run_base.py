"""Commits by others during a run: the base moves, and landed work is recreated on it."""

import asyncio
import fcntl
import os
from pathlib import Path

import pytest
import yaml
from run_harness import Ground, Tasks, reach, until

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.errors import BusyError, InputError
from tasks_lib.git.repository_lock import admin_lock
from tasks_lib.project.loading import load_project
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.settings.schema import digest_verify

WAIT = "[ $id = a ] || await go\nwork"
CHAIN: Tasks = {"a": {}, "b": {"depends_on": ["a"]}}


def block_publication(ground: Ground) -> None:
    """Put an uncommitted file of the user's where landed work has one."""
    (ground.top / "a.txt").write_text("mine\n")


async def test_person_commits_on_main_while_sessions_work_and_both_are_kept(ground: Ground) -> None:
    ground.make({"a": {}, "b": {}}, "tell begun; await go; work", verify=["true"], signals=["begun", "go"])

    async def commit(opened: OpenRun) -> None:
        await ground.signals["begun"].wait()
        ground.commit("By hand", {"hand.txt": "x\n"})
        ground.signals["go"].send(2)

    worked = await ground.work(during=commit)
    assert set(worked.names.values()) == {"Merged"}
    assert "By hand" in ground.log("%s")
    assert all(ground.has(path) for path in ("hand.txt", "a.txt", "b.txt"))
    assert worked.pending == ""
    assert ground.leftovers() == []


async def test_publication_waits_for_a_file_in_the_way_and_is_made_up_when_it_is_gone(ground: Ground) -> None:
    ground.make({"a": {}})
    block_publication(ground)
    worked = await ground.work()
    assert worked.code is ExitCode.COMPLETED
    assert "a.txt" in worked.pending
    assert (ground.top / "a.txt").read_text() == "mine\n"
    assert ground.log("%s") == ["Begin"]
    assert ground.log("%s", "refs/coordinator/queue/main") == ["Merge feat/a: Do a", "Begin"]
    (ground.top / "a.txt").unlink()
    again = await ground.work()
    assert again.outcomes == {}
    assert again.pending == ""
    assert ground.log("%s") == ["Merge feat/a: Do a", "Begin"]
    assert ground.leftovers() == []


async def test_unpublished_merge_is_made_again_and_verified_again_on_a_base_that_moved(ground: Ground) -> None:
    ground.make(
        CHAIN, WAIT, verify=[f"ls >> {ground.place}/verified; echo . >> {ground.place}/verified"], signals=["go"]
    )
    block_publication(ground)

    async def commit(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        ground.commit("By hand", {"hand.txt": "x\n"})
        await reach(opened, ": main moved: recreating 1 unpublished commits on it.")
        (ground.top / "a.txt").unlink()
        ground.signals["go"].send()

    worked = await ground.work(during=commit)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert ground.log("%s") == ["Merge feat/b: Do b", "Merge feat/a: Do a", "By hand", "Begin"]
    verified = [set(one.split()) for one in (ground.place / "verified").read_text().split("\n.\n")]
    assert any({"a.txt", "hand.txt"} <= paths and "b.txt" not in paths for paths in verified)
    assert ground.leftovers() == []


@pytest.mark.parametrize("now", [["true", "test -f README.md"], []])
async def test_merge_that_is_made_again_names_the_lines_that_verified_it_and_not_those_of_an_earlier_run(
    ground: Ground, now: list[str]
) -> None:
    ground.make({"a": {}}, verify=["true"])
    block_publication(ground)
    assert (await ground.work()).pending
    first = ground.trailer("Verified", "refs/coordinator/queue/main")
    assert first == digest_verify(load_project(ground.top, {}).settings)
    said = yaml.safe_load((ground.top / "coordinator.yaml").read_text())
    ground.commit("Verify otherwise", {"coordinator.yaml": yaml.safe_dump({**said, "verify": now})})
    (ground.top / "a.txt").unlink()
    assert (await ground.work()).pending == ""
    assert ground.log("%s") == ["Merge feat/a: Do a", "Verify otherwise", "Begin"]
    assert ground.trailer("Verified") == digest_verify(load_project(ground.top, {}).settings) != first


async def test_base_that_moves_again_while_merges_are_made_again_is_followed_as_well(ground: Ground) -> None:
    signals = ground.place / "signals"
    pause = f"echo > {signals}/verifying; read -r _ < {signals}/on"
    verify = f"[ ! -f hand.txt ] || [ -f {ground.place}/once ] || {{ : > {ground.place}/once; {pause}; }}"
    ground.make({"a": {}}, verify=[verify], signals=["verifying", "on"])
    block_publication(ground)

    async def commit(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        ground.commit("By hand", {"hand.txt": "x\n"})
        await ground.signals["verifying"].wait()
        ground.commit("Once more", {"more.txt": "x\n"})
        opened.run.git.head.base()  # Observers may read it at any moment.
        ground.signals["on"].send()
        (ground.top / "a.txt").unlink()
        await opened.base_follower.follow_base()
        await opened.publisher.publish_now()

    worked = await ground.work(during=commit)
    assert worked.pending == ""
    assert ground.log("%s") == ["Merge feat/a: Do a", "Once more", "By hand", "Begin"]


async def test_unpublished_merge_that_no_longer_fits_is_worked_again_from_its_branch(ground: Ground) -> None:
    resolve = "git merge -q $COORDINATOR_TARGET || :; echo both > a.txt; commit 'Resolve'"
    agent = f"[ $id = a ] && [ -f a.txt ] && {{ tell again; await resolve; {resolve}; exit 0; }}\n{WAIT}"
    ground.make({"a": {}, "b": {}}, agent, signals=["go", "again", "resolve"])
    block_publication(ground)

    async def commit(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        await opened.run.background.wait()
        ground.commit("By hand", {"a.txt": "by hand\n"})
        await ground.signals["again"].wait()
        assert opened.run.board.view.nodes["a"].outcome == ""
        assert ground.show("a.txt") == "by hand\n"
        assert ground.show("a.txt", "feat/a") == "a\n"
        assert "status: pending" in ground.show("tasks/a.md")
        ground.signals["resolve"].send()
        await reach(opened, "a: Merged")
        ground.signals["go"].send()

    worked = await ground.work(during=commit)
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert worked.started == ["a", "b", "a"]
    assert "a: its merge was undone" in worked.lines
    assert worked.view.nodes["a"].commit in ground.log("%H")
    assert worked.code is ExitCode.COMPLETED
    assert ground.show("a.txt") == "both\n"
    assert ground.leftovers() == []


async def test_work_taken_back_while_its_branch_is_being_deleted_is_not_lost(ground: Ground) -> None:
    """The worktree is released under the lock held here, so the branch is deleted after the merge was undone."""
    agent = (
        "[ -f a.txt ] && { git commit -q --allow-empty -m 'blocked(a): not now'; exit 0; }\ntell begun; await go; work"
    )
    ground.make({"a": {}}, agent, signals=["begun", "go"])
    block_publication(ground)

    async def commit(opened: OpenRun) -> None:
        await ground.signals["begun"].wait()
        with admin_lock(opened.run.git.repository):
            ground.signals["go"].send()
            await until(lambda: opened.run.git.head.current() != ground.at())
            ground.commit("By hand", {"a.txt": "by hand\n"})
            await opened.base_follower.follow_base()
        await opened.run.background.wait()

    await ground.work(during=commit)
    assert ground.show("a.txt") == "by hand\n"
    assert ground.show("a.txt", "feat/a") == "a\n"


async def test_base_that_was_rewritten_under_what_was_published_stops_landing(ground: Ground) -> None:
    ground.make({"a": {}, "b": {}}, WAIT, signals=["go"])

    async def rewrite(opened: OpenRun) -> None:
        await reach(opened, "a: Merged")
        await opened.publisher.publish_now()
        await opened.base_follower.follow_base()
        ground.git.run("commit", "--amend", "--quiet", "-m", "Rewritten")
        ground.signals["go"].send()

    worked = await ground.work(during=rewrite)
    assert worked.names == {"a": "Merged", "b": "Failed"}
    assert "main was rewritten" in worked.view.nodes["b"].reason
    assert ground.log("%s")[0] == "Rewritten"
    assert ground.show("b.txt", "feat/b") == "b\n"


async def test_second_coordinator_on_a_repository_is_refused_and_does_no_harm(ground: Ground) -> None:
    ground.make({"a": {}}, "tell begun; await go; work", signals=["begun", "go"])

    async def start_another(opened: OpenRun) -> None:
        await ground.signals["begun"].wait()
        with pytest.raises(BusyError, match=opened.run.id):
            await ground.work()
        ground.signals["go"].send()

    assert (await ground.work(during=start_another)).names == {"a": "Merged"}
    assert ground.turns() == ["a-1-1"]


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux says who waits for a lock")
async def test_worktrees_are_made_only_under_the_lock_of_their_administration(ground: Ground) -> None:
    """Without it, one parallel `git worktree add` in ten fails."""
    ground.make({"a": {}})

    async def hold(opened: OpenRun) -> None:
        merged = asyncio.ensure_future(reach(opened, "a: Merged"))
        with (opened.run.git.repository.state_dir / "worktrees.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            inode = os.fstat(lock.fileno()).st_ino
            await until(lambda: merged.done() or is_waited_for(inode))
            assert not merged.done()
            assert not (ground.top / ".worktrees" / "feat").exists()
        await merged

    assert (await ground.work(during=hold)).names == {"a": "Merged"}


def is_waited_for(inode: int) -> bool:
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and line.split()[6].endswith(f":{inode}") for line in lines)


async def test_task_files_that_break_while_the_run_lives_are_an_error_with_every_fault(ground: Ground) -> None:
    ground.make({"a": {}, "b": {}}, "tell begun; await go; work", signals=["begun", "go"])

    async def break_one(opened: OpenRun) -> None:
        await ground.signals["begun"].wait()
        broken = ground.commit("Break", {"tasks/b.md": ground.show("tasks/b.md").replace("pending", "perhaps")})
        with pytest.raises(InputError, match=r"tasks/b\.md:4"):
            opened.run.nodes.read_graph_at(broken)
        ground.git.run("revert", "--no-edit", "HEAD")
        ground.signals["go"].send(2)

    assert set((await ground.work(during=break_one)).names.values()) == {"Merged"}


async def test_target_may_be_a_branch_that_is_not_checked_out(ground: Ground) -> None:
    ground.make({"a": {}}, target="work")
    ground.git.run("branch", "work")
    assert (await ground.work()).names == {"a": "Merged"}
    assert ground.log("%s", "work") == ["Merge feat/a: Do a", "Begin"]
    assert ground.log("%s") == ["Begin"]
