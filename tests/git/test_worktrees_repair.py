"""Whenever a run is killed, the next one repairs git's worktree entries and loses no work."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from killed_process import run_in_child
from run_locks import reconcile

from tasks_lib.git.branches import delete_branch
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.git.worktree_admin import MAKING
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees

BRANCHES = ("feat/first", "feat/deep/a", "feat/second", "feat/third")


def head_of(repository: Repository) -> str:
    found = repository.branch_head("main")
    assert found
    return found


def run_life(top: Path) -> None:
    """Do every operation once, with a pool hit, leaving a session's file in the worktree of `feat/deep/a`."""
    repository = Repository.open(top)
    worktrees, start = Worktrees(repository), head_of(repository)
    reconcile(worktrees)
    worktrees.release(worktrees.open_branch("feat/first", start))
    session = worktrees.open_branch("feat/deep/a", start)
    (session.path / "precious.txt").write_text("work")
    verify = worktrees.open_detached(start, "verify")
    worktrees.switch(verify, start)
    worktrees.release(verify)
    worktrees.release(worktrees.open_branch("feat/second", start))
    worktrees.remove(worktrees.open_branch("feat/third", start))
    worktrees.close()


def assert_nothing_leaks(repository: Repository) -> None:
    """Open, commit, release and delete every branch; then assert that nothing is left of any worktree."""
    worktrees = Worktrees(repository)
    reconcile(worktrees, BRANCHES)
    assert reconcile(Worktrees(repository), BRANCHES) == []
    for branch in BRANCHES:
        opened = worktrees.open_branch(branch, head_of(repository))
        assert opened.git.text("status", "--porcelain") in ("", "?? precious.txt")
        opened.git.run("commit", "--quiet", "--allow-empty", "--message", "Work")
        found = opened.git.resolve("HEAD")
        worktrees.release(opened)
        assert found
        assert delete_branch(repository, branch, found)
    worktrees.close()
    assert "prunable" not in repository.git.text("worktree", "list", "--porcelain")
    assert not repository.worktrees_dir.exists()
    root = repository.common_dir / "worktrees"
    assert not root.exists() or list(root.iterdir()) == []
    assert {path.name for path in repository.state_dir.iterdir()} == {"lock", "worktrees.lock"}
    assert list(repository.common_dir.rglob("*.lock")) == [repository.state_dir / "worktrees.lock"]


def test_run_killed_between_any_two_steps_goes_on(repository: Repository) -> None:
    def life() -> None:
        run_life(repository.top)

    total = run_in_child(life, None)
    assert (repository.worktrees_dir / "feat" / "deep" / "a" / "precious.txt").read_text() == "work"
    assert_nothing_leaks(repository)
    for moment in sorted(random.Random(7).sample(range(total), 14)):
        run_in_child(life, moment)
        # Again, so that it is also killed while reconciling what the first kill left.
        run_in_child(life, moment // 4)
        assert_nothing_leaks(repository)


def test_work_in_a_session_survives_a_kill_at_any_later_step(repository: Repository) -> None:
    session = Worktrees(repository).open_branch("feat/kept", head_of(repository))
    (session.path / "precious.txt").write_text("work")
    for moment in random.Random(11).sample(range(60), 8):
        run_in_child(lambda: run_life(repository.top), moment)
    worktrees = Worktrees(repository)
    reconcile(worktrees)
    resumed = worktrees.open_branch("feat/kept", head_of(repository))
    assert (resumed.is_resumed, resumed.slot) == (True, session.slot)
    assert (resumed.path / "precious.txt").read_text() == "work"


def test_git_killed_in_the_middle_of_an_add_is_recovered_from(repository: Repository) -> None:
    place = repository.worktrees_dir / "feat" / "first"
    command = ["git", "worktree", "add", "--no-checkout", "--lock", "--reason", MAKING, "--no-track"]
    for delay_seconds in (0.001 * step for step in range(8)):
        process = subprocess.Popen(
            [*command, "-b", "feat/first", str(place), "main"],
            cwd=repository.top,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(delay_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert_nothing_leaks_after_locks_are_old(repository)


def assert_nothing_leaks_after_locks_are_old(repository: Repository) -> None:
    for lock in repository.common_dir.rglob("*.lock"):
        os.utime(lock, (time.time() - 60, time.time() - 60))
    for admin in (repository.common_dir / "worktrees").glob("*"):
        os.utime(admin, (time.time() - 60, time.time() - 60))
    assert_nothing_leaks(repository)


def make_pooled(repository: Repository) -> Worktree:
    worktrees = Worktrees(repository)
    opened = worktrees.open_branch("feat/first", head_of(repository))
    worktrees.release(opened)
    return opened


def test_half_made_entry_that_names_no_directory_is_removed_only_if_ours(repository: Repository) -> None:
    for name, reason in (("ours", MAKING), ("theirs", "initializing")):
        admin = repository.common_dir / "worktrees" / name
        admin.mkdir(parents=True)
        (admin / "locked").write_text(reason)
    assert len(reconcile(Worktrees(repository))) == 1
    assert [path.name for path in (repository.common_dir / "worktrees").iterdir()] == ["theirs"]


@pytest.mark.parametrize("written", [(), ("locked",), ("locked", "gitdir")])
def test_entry_that_git_only_opened_is_removed_once_nobody_can_be_writing_it(
    repository: Repository, written: tuple[str, ...]
) -> None:
    admin = repository.common_dir / "worktrees" / "first"
    admin.mkdir(parents=True)
    for name in written:
        (admin / name).write_bytes(b"")
    reconcile(Worktrees(repository))
    assert admin.is_dir()
    os.utime(admin, (time.time() - 60, time.time() - 60))
    assert len(reconcile(Worktrees(repository))) == 1
    assert not admin.exists()


@pytest.mark.parametrize("name", [".pool/4", "feat/first"])
def test_directory_that_git_created_before_its_entry_names_it_is_left_nowhere(
    repository: Repository, name: str
) -> None:
    admin = repository.common_dir / "worktrees" / Path(name).name
    admin.mkdir(parents=True)
    (admin / "locked").write_text(MAKING)
    (repository.worktrees_dir / name).mkdir(parents=True)
    assert_nothing_leaks(repository)


def test_directory_in_the_pool_that_is_not_called_like_a_slot_is_reported_and_stays(repository: Repository) -> None:
    place = repository.worktrees_dir / ".pool" / "mine"
    place.mkdir(parents=True)
    assert reconcile(Worktrees(repository)) == [f"{place}: was not created by Coordinator, and stays"]
    assert place.is_dir()


def test_directory_in_which_git_only_opened_a_file_is_not_kept_aside(repository: Repository) -> None:
    place = repository.worktrees_dir / "feat" / "first"
    words = ["--no-checkout", "--lock", "--reason", MAKING, "-b", "feat/first"]
    repository.git.run("worktree", "add", "--quiet", *words, str(place), "main")
    (place / ".git").write_bytes(b"")
    worktrees = Worktrees(repository)
    reconcile(worktrees)
    worktrees.remove(worktrees.open_branch("feat/first", head_of(repository)))
    worktrees.close()
    assert not repository.worktrees_dir.exists()


def test_half_made_worktree_is_not_taken_for_one_whose_files_were_deleted(repository: Repository) -> None:
    place = repository.worktrees_dir / "feat" / "first"
    words = ["--no-checkout", "--lock", "--reason", MAKING, "-b", "feat/first"]
    repository.git.run("worktree", "add", "--quiet", *words, str(place), "main")
    opened = Worktrees(repository).open_branch("feat/first", head_of(repository))
    assert (opened.is_resumed, opened.git.text("status", "--porcelain")) == (False, "")
    assert_nothing_leaks(repository)


def test_move_out_of_the_pool_that_was_cut_short_is_recovered_from(repository: Repository) -> None:
    opened = make_pooled(repository)
    pooled = repository.worktrees_dir / ".pool" / str(opened.slot)
    Worktree(pooled, opened.git_dir, 1).git.run("checkout", "--quiet", "feat/first")
    opened.path.parent.mkdir(exist_ok=True)
    pooled.rename(opened.path)
    assert_nothing_leaks(repository)


def test_move_into_the_pool_that_was_cut_short_is_recovered_from(repository: Repository) -> None:
    opened = Worktrees(repository).open_branch("feat/first", head_of(repository))
    opened.git.run("update-ref", "--no-deref", "HEAD", "HEAD")
    (repository.worktrees_dir / ".pool").mkdir()
    opened.path.rename(repository.worktrees_dir / ".pool" / "1")
    assert_nothing_leaks(repository)


def test_worktree_whose_link_was_deleted_is_linked_again_with_its_bytes(repository: Repository) -> None:
    opened = Worktrees(repository).open_branch("feat/deep/a", head_of(repository))
    (opened.path / "precious.txt").write_text("work")
    (opened.path / ".git").unlink()
    worktrees = Worktrees(repository)
    (line,) = reconcile(worktrees)
    assert "linked to the repository again" in line
    assert worktrees.open_branch("feat/deep/a", head_of(repository)).is_resumed
    assert_nothing_leaks(repository)


def make_old(path: Path) -> Path:
    """Create `path` if needed and set its mtime to a minute ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - 60, time.time() - 60))
    return path


@pytest.mark.parametrize("name", ["packed-refs.lock", "config.lock"])
def test_lock_of_all_refs_or_of_settings_is_removed_only_if_made_since_a_run_that_died(
    repository: Repository, name: str
) -> None:
    lock = make_old(repository.common_dir / name)
    (line,) = reconcile(Worktrees(repository))
    assert line.startswith(f"{lock}: a lock file that is not Coordinator's")
    assert lock.exists()
    die_holding_the_lock(repository)
    reconcile(Worktrees(repository))
    assert lock.exists()
    die_holding_the_lock(repository)
    os.utime(lock)
    (line,) = reconcile(Worktrees(repository))
    assert str(lock) in line
    assert not lock.exists()


def test_lock_made_by_a_run_whose_successors_died_too_is_removed(repository: Repository) -> None:
    die_holding_the_lock(repository)
    lock = repository.common_dir / "packed-refs.lock"
    lock.touch()
    for _ in range(2):
        die_holding_the_lock(repository)
    assert len(reconcile(Worktrees(repository))) == 1
    assert not lock.exists()


def die_holding_the_lock(repository: Repository) -> None:
    def hold() -> None:
        RunLock(repository.state_dir, "dead").__enter__()
        os.kill(os.getpid(), signal.SIGKILL)

    repository.prepare()
    child = os.fork()
    if child == 0:
        hold()
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    "name", ["index.lock", "HEAD.lock", "refs/heads/main.lock", "refs/stash.lock", "refs/tags/v1.lock"]
)
def test_old_lock_of_a_person_is_said_and_stays(repository: Repository, name: str) -> None:
    lock = make_old(repository.common_dir / name)
    (line,) = reconcile(Worktrees(repository), BRANCHES)
    assert line.startswith(f"{lock}: a lock file that is not Coordinator's")
    assert lock.exists()
    os.utime(lock)
    assert reconcile(Worktrees(repository), BRANCHES) == []


@pytest.mark.parametrize("name", ["refs/coordinator/queue/main.lock", "refs/heads/feat/deep/a.lock"])
def test_lock_of_our_own_refs_is_removed_at_once(repository: Repository, name: str) -> None:
    lock = repository.common_dir / name
    lock.parent.mkdir(parents=True)
    lock.touch()
    (line,) = reconcile(Worktrees(repository), BRANCHES)
    assert str(lock) in line
    assert not lock.exists()
    assert not lock.parent.exists()


@pytest.mark.parametrize("name", ["index.lock", "HEAD.lock", "refs/bisect/bad.lock"])
def test_lock_in_a_worktree_of_ours_is_removed_and_in_another_is_not(repository: Repository, name: str) -> None:
    ours = Worktrees(repository).open_branch("feat/first", head_of(repository)).git_dir
    repository.git.run("worktree", "add", "--quiet", "--detach", str(repository.top.parent / "mine"))
    theirs = repository.common_dir / "worktrees" / "mine"
    for admin in (ours, theirs):
        make_old(admin / name)
    reconcile(Worktrees(repository), BRANCHES)
    assert ((ours / name).exists(), (theirs / name).exists()) == (False, True)


def test_files_that_were_being_written_are_removed_and_others_stay(repository: Repository) -> None:
    admin = Worktrees(repository).open_branch("feat/first", head_of(repository)).git_dir
    repository.prepare()
    repository.exclude_worktrees()
    info = repository.common_dir / "info"
    unfinished = [
        admin / "coordinator.json.coordinator-x1",
        admin / "coordinator-slot.coordinator-x1",
        repository.state_dir / "run.json.coordinator-x1",
        info / "exclude.coordinator-x1",
    ]
    for path in unfinished:
        path.write_text("half")
    (admin / "coordinator-disk-x1").mkdir()
    (admin / "coordinator-index-x1").mkdir()
    (admin / "coordinator-index-x1" / "index").write_text("half")
    (info / "exclude.original").write_text("mine")
    assert len(reconcile(Worktrees(repository))) == 6
    assert [path for path in (*unfinished, *admin.glob("coordinator-*-x1")) if path.exists()] == []
    assert {path.name for path in info.iterdir()} >= {"exclude", "exclude.original"}
    assert reconcile(Worktrees(repository)) == []
