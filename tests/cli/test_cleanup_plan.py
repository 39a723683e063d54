"""Dry run, `cleanup`, audit and the start of a run report the same: everything that killed runs can leave, at once."""

import asyncio
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest
from cli_fixtures import Main, UserRepository, land, open_worktree, task_text

from tasks_lib.cleanup.leftovers import Kind
from tasks_lib.cleanup.plan import CleanupPlan, Scope, find_leftovers
from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.engine.run_lifecycle import open_run
from tasks_lib.git.kept.snapshots import keep_state
from tasks_lib.git.publish.interrupted_fast_forward import Move, remembered
from tasks_lib.git.session_record import write_record
from tasks_lib.git.worktree_admin import MAKING, write_slot
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.process.private_directories import BRIEF, make_private, name_owner
from tasks_lib.process.process_table import read_start
from tasks_lib.project.child_environment import REPOSITORY_MARKER
from tasks_lib.project.loading import load_project
from tasks_lib.session.attempt_record import Record, TurnRecord

DEAD_PID = 4_194_305
"""Not the pid of any process: Linux counts to 4,194,304."""
DAY_SECONDS = 86_400
NODES = ("left", "right", "gone", "bare", "nest", "closed")


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a directory for this test's temporary files only."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
    monkeypatch.setattr(tempfile, "tempdir", None)


def age(path: Path, seconds: float) -> None:
    """Create `path` if needed and set its mtime to `seconds` ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - seconds, time.time() - seconds))


def leave_worktrees(repo: UserRepository) -> None:
    """Leave worktrees of landed nodes (one without directory, one without `.git`), of an open node, and half-made ones."""
    opened = {task_id: open_worktree(repo, task_id) for task_id in NODES}
    for task_id in ("left", "gone", "bare", "closed"):
        land(repo, task_id)
    Worktrees(repo.repository).remove(opened["closed"])
    opened["gone"].path.rename(repo.top.parent / "elsewhere")
    (opened["bare"].path / ".git").unlink()
    nested = opened["nest"]
    nested.git.run("worktree", "add", "--quiet", "--detach", "inner")
    (nested.path / "nest.txt").write_text("stashed\n")
    nested.git.run("stash", "--quiet")
    half_made = ["worktree", "add", "-q", "--no-checkout", "--lock", "--reason", MAKING, "-b", "feat/half"]
    repo.git.run(*half_made, str(repo.repository.worktrees_dir / "feat" / "half"), "main")
    repo.git.run("worktree", "add", "-q", "--detach", str(repo.repository.worktrees_dir / ".pool" / "9"), "main")
    write_slot(repo.repository.common_dir / "worktrees" / "9", 9)
    nameless = repo.repository.common_dir / "worktrees" / "begun"
    nameless.mkdir()
    (nameless / "locked").write_text(MAKING)


def leave_files(repo: UserRepository) -> None:
    """Leave locks, files, directories, logs, states, refs and an unfinished move of the checkout."""
    repository, common = repo.repository, repo.repository.common_dir
    right = common / "worktrees" / "right"
    draft = repo.repository.worktrees_dir / "feat" / "right" / "draft.txt"
    draft.write_text("old\n")
    worktree = next(one for one in Worktrees(repository).list() if one.branch == "feat/right")
    age(common / "logs" / str(keep_state(worktree, "right", "run")), 40 * DAY_SECONDS)
    draft.unlink()
    for lock in (right / "index.lock", common / "refs/heads/feat/right.lock", common / "refs/coordinator/x.lock"):
        age(lock, 60)
    age(common / "refs/heads/mine.lock", 60)
    for path in (repository.state_dir / "run.json.coordinator-x", right / "coordinator.json.coordinator-x"):
        age(path, 60)
    age(repository.state_dir / "logs" / "left" / "session-1.log", 40 * DAY_SECONDS)
    (repository.worktrees_dir / ".trash" / "x").mkdir(parents=True)
    (repository.state_dir / ".trash" / "y").mkdir(parents=True)
    for owner in (name_owner(common), BRIEF):
        made = make_private(owner)
        made.rename(made.with_name(made.name.replace(f"-{os.getpid()}-", f"-{DEAD_PID}-")))
    tip = repo.git.text("rev-parse", "main")
    repo.git.run("update-ref", "refs/coordinator/queue/main", tip)
    with remembered(common, Move("refs/heads/main", f"{tip}", tip, str(common), str(repo.top))):
        written = (repository.state_dir / "moving.json").read_bytes()
    (repository.state_dir / "moving.json").write_bytes(written)


@pytest.fixture
def left(repo: UserRepository) -> Generator[UserRepository]:
    """A repository with all leftovers and two processes: one with the marker, and one named only in a record."""
    repo.commit(repo.tasks(*(task_text(task_id) for task_id in NODES)), "Plan")
    repo.repository.prepare()
    repo.repository.exclude_worktrees()
    leave_worktrees(repo)
    leave_files(repo)
    marked = {**os.environ, REPOSITORY_MARKER: str(repo.repository.common_dir)}
    processes = [
        subprocess.Popen(["sleep", "600"], env=marked),
        subprocess.Popen(["sleep", "600"], start_new_session=True),
    ]
    turn = TurnRecord(pid=processes[1].pid, pid_started=read_start(processes[1].pid))
    record = Record("right", "feat/right", turn=turn)
    write_record(repo.repository.common_dir / "worktrees" / "right", record)
    # The reapers stand in for init, which adopts the orphans of a killed run.
    reapers = [threading.Thread(target=process.wait) for process in processes]
    for reaper in reapers:
        reaper.start()
    yield repo
    for process in processes:
        if psutil.pid_exists(process.pid):
            process.kill()
    for reaper in reapers:
        reaper.join()


def read_plan(repo: UserRepository) -> CleanupPlan:
    project = load_project(repo.top, {})
    branches = tuple(project.name_branches().values())
    return find_leftovers(Scope(project.repository, project.settings, project.open_head(), project.graph, branches))


def test_what_the_dry_run_lists_is_what_cleanup_then_does(left: UserRepository, main_here: Main) -> None:
    kinds = {one.kind for one in read_plan(left).list()}
    # Sessions on other machines: spokes/test_spoke_cleanup.py.
    assert set(Kind) - kinds == {Kind.EMPTY, Kind.SESSION, Kind.PUBLISHED}
    planned = json.loads(main_here("cleanup", "--dry-run", "--json", str(left.top))[1])
    done = json.loads(main_here("cleanup", "--json", str(left.top))[1])
    expected = [line.replace(", would be ", ", was ").replace(" would be ", " ") for line in planned["done"]]
    assert [line for line in expected if not any(said.startswith(line) for said in done["done"])] == []
    assert [said for said in done["done"] if not any(said.startswith(line) for line in expected)] == []
    assert len(done["done"]) == len(expected)
    assert done["open"] == planned["open"]
    assert read_plan(left).list() == []
    assert json.loads(main_here("cleanup", "--json", str(left.top))[1])["done"] == list(
        read_plan(left).repository.notices
    )


def test_the_audit_names_what_the_plan_has(left: UserRepository) -> None:
    found = audit(load_project(left.top, {}), 10)
    said = "\n".join([*(str(one) for one in found.violations), *found.notes])
    assert [one for one in read_plan(left).list() if one.kind is not Kind.SHARED and one.where not in said] == []


def test_a_run_leaves_nothing_of_it_either(left: UserRepository) -> None:
    async def work() -> list[str]:
        project = await asyncio.to_thread(load_project, left.top, {})
        async with open_run(project, "next", 1) as opened:
            return list(opened.run.board.view.messages)

    messages = asyncio.run(work())
    assert "Ended 2 processes that an earlier run had left running." in messages
    assert read_plan(left).list() == []


def test_a_state_that_is_kept_again_while_it_is_planned_to_be_forgotten_stays(
    repo: UserRepository, main_here: Main
) -> None:
    worktree = open_worktree(repo, "left")
    (worktree.path / "draft.txt").write_text("only here\n")
    land(repo, "left")
    landed = repo.git.text("rev-parse", "main")
    ref = str(keep_state(worktree, "left", "cleanup", landed=landed))
    age(repo.repository.common_dir / "logs" / ref, 40 * DAY_SECONDS)
    main_here("cleanup", str(repo.top))
    assert repo.git.text("for-each-ref", "--format=%(refname)", "refs/coordinator/kept") == ref
