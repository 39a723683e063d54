"""What `cleanup` puts away, and what it never touches."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import psutil
import pytest
from helpers_cli import Call, Main, Place, task_text

from tasks_lib.errors import BusyError
from tasks_lib.git.lock import RunLock
from tasks_lib.git.records import Record, write_record
from tasks_lib.git.worktrees import Worktree, Worktrees
from tasks_lib.life.surroundings import REPOSITORY_MARKER


def open_worktree(place: Place, task_id: str) -> Worktree:
    """A worktree of a node, with a commit on its branch and a record, as a killed run leaves it."""
    opened = Worktrees(place.repository).open_branch(f"feat/{task_id}", place.git.text("rev-parse", "main"))
    write_record(opened.git_dir, Record(task_id, f"feat/{task_id}"))
    (opened.path / f"{task_id}.txt").write_text("work\n")
    opened.git.run("add", "--all")
    opened.git.run("commit", "--quiet", "--message", f"Work on {task_id}")
    return opened


def land(place: Place, task_id: str) -> None:
    """Merge the branch of a node as a run does, task file completed."""
    place.git.run("merge", "--quiet", "--no-ff", "--no-commit", f"feat/{task_id}")
    done = place.tasks(task_text(task_id, status="completed"))
    place.commit(done, f"Merge feat/{task_id}: Do {task_id}\n\nTask: {task_id}")


def branches(place: Place) -> list[str]:
    return place.git.text("for-each-ref", "--format=%(refname:short)", "refs/heads").split()


def test_landed_node_is_put_away_and_open_work_stays(place: Place, main_here: Main) -> None:
    landed, still_open = open_worktree(place, "left"), open_worktree(place, "right")
    land(place, "left")
    code, output = main_here("cleanup", str(place.top))
    assert (code, branches(place)) == (0, ["feat/right", "main"])
    assert (landed.path.exists(), still_open.path.is_dir()) == (False, True)
    assert f"{still_open.path}: right, pending" in output
    assert (place.top / ".worktrees" / ".pool").exists() is False


def test_bytes_that_did_not_land_are_kept_and_listed(place: Place, main_here: Main) -> None:
    landed = open_worktree(place, "left")
    land(place, "left")
    (landed.path / "draft.txt").write_text("not committed\n")
    code, output = main_here("cleanup", "--json", str(place.top))
    (kept,) = json.loads(output)["kept"]
    assert (code, landed.path.exists(), kept["ref"]) == (0, False, "refs/coordinator/kept/left/1")
    assert place.git.text("show", f"{kept['commit']}:draft.txt") == "not committed"
    again = main_here("cleanup", str(place.top))[1]
    assert again.startswith("There was nothing to put away.")
    assert "git switch -c NAME refs/coordinator/kept/left/1" in again


def test_dry_run_says_the_same_and_changes_nothing(place: Place, main_here: Main) -> None:
    landed = open_worktree(place, "left")
    land(place, "left")
    code, output = main_here("cleanup", "--dry-run", str(place.top))
    assert (code, landed.path.is_dir(), branches(place)) == (0, True, ["feat/left", "main"])
    assert output.splitlines()[:2] == [
        f"{landed.path}: would be removed; left has landed",
        "feat/left: would be deleted; its work has landed",
    ]


def test_landed_branch_without_a_worktree_goes_unless_it_moved_on(place: Place, main_here: Main) -> None:
    worktrees = Worktrees(place.repository)
    for task_id in ("left", "right"):
        opened = open_worktree(place, task_id)
        land(place, task_id)
        worktrees.remove(opened)
    later = place.git.run("commit-tree", "feat/right^{tree}", "-p", "feat/right", stdin=b"Later\n").text
    place.git.run("update-ref", "refs/heads/feat/right", later)
    assert main_here("cleanup", str(place.top))[0] == 0
    assert branches(place) == ["feat/right", "main"]


def test_landed_branch_that_a_person_has_checked_out_stays(place: Place, main_here: Main) -> None:
    opened = open_worktree(place, "left")
    land(place, "left")
    Worktrees(place.repository).remove(opened)
    place.git.run("worktree", "add", "-q", str(place.top.parent / "mine"), "feat/left")
    assert main_here("cleanup", str(place.top))[0] == 0
    assert branches(place) == ["feat/left", "main"]


def test_cleanup_refuses_while_a_run_is_going_on(place: Place, main_here: Main) -> None:
    opened = open_worktree(place, "left")
    land(place, "left")
    with RunLock(place.repository.state_dir, "r1"):
        for words in ((), ("--dry-run",)):
            with pytest.raises(BusyError, match="run r1"):
                main_here("cleanup", *words, str(place.top))
    assert opened.path.is_dir()


def test_process_that_a_killed_run_left_is_ended(place: Place, call: Call) -> None:
    marked = {**os.environ, REPOSITORY_MARKER: str(place.repository.common_dir)}
    left = subprocess.Popen(["sleep", "600"], env=marked)
    other = subprocess.Popen(["sleep", "600"], env={**marked, REPOSITORY_MARKER: str(Path("/elsewhere"))})
    # Whoever reaps it stands in for init, which has the orphans of a killed run.
    reaper = threading.Thread(target=left.wait)
    reaper.start()
    try:
        assert f"process {left.pid}: would be ended" in call("cleanup", "--dry-run", cwd=place.top).stdout
        assert "ended 1 process" in call("cleanup", cwd=place.top).stdout
        reaper.join()
        assert left.returncode == -signal.SIGTERM
        assert psutil.Process(other.pid).is_running()
    finally:
        for process in (left, other):
            process.kill()
            process.wait()
