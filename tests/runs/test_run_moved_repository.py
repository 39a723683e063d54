"""A node continues with its uncommitted work after its repository moves, and a copy leaves the original alone."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from run_harness import RunHarness

from tasks_lib.cleanup.moved_repository import find_move
from tasks_lib.errors import InputError
from tasks_lib.git.repository import Repository
from tasks_lib.git.session_record import read_record, write_record
from tasks_lib.model import Stage
from tasks_lib.process.private_directories import make_private, name_owner
from tasks_lib.process.process_table import read_start

BLOCK = "echo draft > draft.txt; coordinator notify --level blocking 'Which currency?'"
FINISH = 'cat draft.txt > found.txt; rm draft.txt; git add -A; git commit -qm "feat($id): found"'
DEAD = (4_194_301, 12)


async def block(harness: RunHarness) -> None:
    """Run node `a` until it is blocked with an uncommitted file, then unblock it."""
    harness.make({"a": {}}, BLOCK)
    assert (await harness.work()).names == {"a": "Blocked"}
    assert (harness.top / ".worktrees/feat/a/draft.txt").read_text() == "draft\n"
    harness.set_status("resolve-a-1", "completed")
    harness.write_agent(FINISH)


def read_tree(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}


async def test_blocked_node_of_a_repository_that_was_moved_goes_on_with_its_files(harness: RunHarness) -> None:
    await block(harness)
    other = RunHarness(harness.place / "other", signals={})
    other.place.mkdir()
    shutil.copytree(harness.place / "journal", other.place / "journal")
    harness.top.rename(other.top)
    worked = await other.work()
    assert worked.names == {"a": "Merged"}
    assert other.show("found.txt") == "draft\n"
    assert any("was moved from" in line and "1 worktree" in line for line in worked.view.messages)
    assert other.leftovers() == []
    assert find_move(Repository.open(other.top)) is None


async def test_blocked_node_of_a_copy_goes_on_there_and_then_in_the_original(harness: RunHarness) -> None:
    await block(harness)
    other = RunHarness(harness.place / "other", signals={})
    other.place.mkdir()
    subprocess.run(["cp", "-a", str(harness.top), str(other.place)], check=True)  # noqa: ASYNC221
    before = read_tree(harness.top)
    worked = await other.work()
    assert worked.names == {"a": "Merged"}
    assert other.show("found.txt") == "draft\n"
    assert read_tree(harness.top) == before
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.show("found.txt") == "draft\n"


@contextmanager
def living(**variables: str) -> Generator["subprocess.Popen[bytes]"]:
    """A process with the environment variables of a run that is still active."""
    process = subprocess.Popen(["sleep", "600"], env={**os.environ, **variables}, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_copy_made_while_the_original_is_worked_ends_none_of_its_processes(harness: RunHarness) -> None:
    await block(harness)
    admin = harness.top / ".git/worktrees/a"
    with living(COORDINATOR_REPOSITORY=str(harness.top / ".git"), COORDINATOR_SESSION="busy") as agent:
        record = read_record(admin)
        assert record
        turn = record.turn.with_process(agent.pid, read_start(agent.pid))
        attempt = record.attempt.with_session("busy")
        write_record(admin, record.change(stage=Stage.SESSION, attempt=attempt, turn=turn))
        (harness.top / ".git/coordinator/lock").write_text('{"run": "r1", "pid": 1, "host": "h"}')
        other = RunHarness(harness.place / "other", signals={})
        other.place.mkdir()
        subprocess.run(["cp", "-a", str(harness.top), str(other.place)], check=True)  # noqa: ASYNC221
        worked = await other.work()
        assert (worked.names, agent.poll()) == ({"a": "Merged"}, None)
        assert not any("exited uncleanly" in line for line in worked.view.messages)


async def test_what_a_killed_run_left_running_is_ended_after_a_move_too(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = harness.place / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    await block(harness)
    words = make_private(name_owner(harness.top / ".git")).name.split("-")
    left = next(place.iterdir()).rename(place / "-".join([*words[:3], *map(str, DEAD), words[5]]))
    other = RunHarness(harness.place / "other", signals={})
    other.place.mkdir()
    with living(COORDINATOR_REPOSITORY=str(harness.top / ".git")) as stray:
        harness.top.rename(other.top)
        worked = await other.work()
        assert worked.names == {"a": "Merged"}
        stray.wait(60)
    assert not left.exists()


async def test_run_waits_for_worktrees_on_a_disk_that_is_not_mounted_and_goes_on_with_them(harness: RunHarness) -> None:
    await block(harness)
    place, disk = harness.top / ".worktrees", harness.place / "disk"
    place.rename(disk)
    place.mkdir()
    for _ in range(2):
        with pytest.raises(InputError, match="worktrees of open nodes were in it"):
            await harness.work()
        assert list(place.iterdir()) == []
    place.rmdir()
    disk.rename(place)
    assert (await harness.work()).names == {"a": "Merged"}
    assert harness.show("found.txt") == "draft\n"


async def test_mount_point_is_never_removed_nor_written_to_while_its_disk_is_away(harness: RunHarness) -> None:
    harness.make({"a": {}}, "work")
    place, disk = harness.top / ".worktrees", harness.place / "disk"
    place.mkdir()
    disk.mkdir()
    mount = ["mount", "--bind", str(disk), str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:  # noqa: ASYNC221 - It returns at once.
        pytest.skip("only root may mount")
    try:
        assert (await harness.work()).names == {"a": "Merged"}
    finally:
        subprocess.run(["umount", str(place)], check=True)  # noqa: ASYNC221
    harness.commit(
        "More", {"tasks/b.md": harness.show("tasks/a.md").replace("id: a", "id: b").replace("completed", "pending")}
    )
    for _ in range(2):
        with pytest.raises(InputError, match="not mounted now"):
            await harness.work()
        assert list(place.iterdir()) == []
    place.rmdir()
    assert (await harness.work()).names == {"b": "Merged"}


async def test_what_is_put_aside_for_a_node_is_said_by_the_run(harness: RunHarness) -> None:
    harness.make({"a": {}}, "work")
    mine = harness.top / ".worktrees/feat/a"
    mine.mkdir(parents=True)
    (mine / "mine.txt").write_text("mine\n")
    worked = await harness.work()
    assert worked.names == {"a": "Merged"}
    kept = harness.top / ".worktrees/.kept-feat-a-1"
    assert (kept / "mine.txt").read_text() == "mine\n"
    assert any(str(mine) in line and str(kept) in line for line in worked.view.messages)


async def test_persons_worktree_in_the_place_of_a_node_fails_that_node_alone(harness: RunHarness) -> None:
    harness.make({"a": {}, "b": {}}, "work")
    mine = harness.top / ".worktrees/feat/a"
    harness.git.run("worktree", "add", "-q", "-b", "feat/a", str(mine))
    (mine / "mine.txt").write_text("mine\n")
    worked = await harness.work()
    assert worked.names == {"a": "Failed", "b": "Merged"}
    assert "a worktree that Coordinator did not create" in str(worked.outcomes["a"])
    assert (mine / "mine.txt").read_text() == "mine\n"
