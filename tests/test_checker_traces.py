"""Breaks each promise about the user's own state and about leftovers once; the checker must report it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from checker import Before, Meant, check, snapshot_user_state
from generated_graphs import run_git
from history_writer import CHECK, STATUSES, HistoryWriter, assert_says, write_rest


@pytest.fixture
def writer(tmp_path: Path) -> HistoryWriter:
    return HistoryWriter(tmp_path)


# The user's own state.


def find_state_faults(writer: HistoryWriter, change: Callable[[], object], before: Before | None = None) -> list[str]:
    """The faults reported when `change` happens to the user's checkout after a correct run."""
    writer.before = before or snapshot_user_state(writer.repo)
    write_rest(writer)
    writer.publish()
    change()
    return check(writer.repo, before=writer.before, meant=Meant(STATUSES))


def test_local_work_that_a_fast_forward_left_alone_is_no_fault(writer: HistoryWriter) -> None:
    (writer.repo / "src" / "base.txt").write_text("mine\n")
    (writer.repo / "notes.txt").write_text("mine\n")
    run_git(writer.repo, "stash", "push", "-q", "--", "src/base.txt")
    (writer.repo / "check.sh").write_text(CHECK + "# mine\n")
    run_git(writer.repo, "add", "check.sh")
    (writer.repo / "src" / "base.txt").write_text("mine again\n")
    assert find_state_faults(writer, lambda: None) == []


def test_a_dirty_file_that_changed_is_said(writer: HistoryWriter) -> None:
    file = writer.repo / "src" / "base.txt"
    file.write_text("mine\n")
    assert_says(find_state_faults(writer, lambda: file.write_text("theirs\n")), "local changes", "src/base.txt")


def test_an_untracked_file_that_is_gone_is_said(writer: HistoryWriter) -> None:
    file = writer.repo / "notes.txt"
    file.write_text("mine\n")
    assert_says(find_state_faults(writer, file.unlink), "local changes", "notes.txt")


def test_something_staged_that_is_no_longer_is_said(writer: HistoryWriter) -> None:
    (writer.repo / "check.sh").write_text(CHECK + "# mine\n")
    run_git(writer.repo, "add", "check.sh")
    assert_says(find_state_faults(writer, lambda: run_git(writer.repo, "reset", "-q")), "staged", "check.sh")


def test_a_stash_that_is_gone_is_said(writer: HistoryWriter) -> None:
    (writer.repo / "src" / "base.txt").write_text("mine\n")
    run_git(writer.repo, "stash", "push", "-q")
    assert_says(find_state_faults(writer, lambda: run_git(writer.repo, "stash", "drop", "-q")), "the stash changed")


def test_another_branch_in_the_checkout_is_said(writer: HistoryWriter) -> None:
    assert_says(find_state_faults(writer, lambda: run_git(writer.repo, "checkout", "-q", "-b", "other")), "HEAD was")


def test_a_branch_of_the_user_that_moved_is_said(writer: HistoryWriter) -> None:
    run_git(writer.repo, "branch", "mine")
    assert_says(
        find_state_faults(writer, lambda: run_git(writer.repo, "branch", "-D", "mine")), "refs/heads/mine", "gone"
    )


def test_a_rewritten_target_is_said(writer: HistoryWriter) -> None:
    writer.merge("a")
    writer.publish()
    seen = snapshot_user_state(writer.repo)
    run_git(writer.repo, "reset", "-q", "--hard", writer.before.commit)
    writer.head = writer.before.commit
    assert_says(find_state_faults(writer, lambda: None, before=seen), "no fast-forward")


def test_an_index_that_changed_in_a_checkout_that_stood_still_is_said(writer: HistoryWriter) -> None:
    run_git(writer.repo, "checkout", "-q", "-b", "mine")
    before = snapshot_user_state(writer.repo)
    write_rest(writer)
    run_git(writer.repo, "update-ref", "refs/heads/main", writer.head)
    assert check(writer.repo, before=before, meant=Meant(STATUSES)) == []
    run_git(writer.repo, "update-index", "--assume-unchanged", "check.sh")
    assert_says(check(writer.repo, before=before, meant=Meant(STATUSES)), "the index is not the same bytes")


# Leftovers.


@contextmanager
def finished(writer: HistoryWriter) -> Generator[Callable[[], list[str]]]:
    """A finished run; calling the value returns the checker's current faults."""
    write_rest(writer)
    writer.publish()
    yield lambda: check(writer.repo, before=writer.before, meant=Meant(STATUSES))


def test_a_worktree_of_a_landed_node_is_said(writer: HistoryWriter) -> None:
    with finished(writer) as look:
        run_git(writer.repo, "worktree", "add", "-q", "-b", "feat/b/c", ".worktrees/feat/b/c", writer.head)
        faults = look()
        assert_says(faults, "the worktree of refs/heads/feat/b/c is left")
        assert_says(faults, "the branch feat/b/c is left")
        assert_says(faults, ".worktrees/feat/b/c is left")


def test_a_worktree_of_a_node_that_did_not_land_may_stay(writer: HistoryWriter) -> None:
    with finished(writer) as look:
        run_git(writer.repo, "worktree", "add", "-q", "-b", "feat/d", ".worktrees/feat/d", writer.head)
        record = writer.repo / ".git" / "worktrees" / "d" / "coordinator.json"
        record.write_text(json.dumps({"task_id": "d"}))
        assert look() == []
        record.write_text(json.dumps({"task_id": "a"}))
        assert_says(look(), "the record worktrees/d/coordinator.json of a is left")


def test_a_pooled_worktree_is_said(writer: HistoryWriter) -> None:
    with finished(writer) as look:
        run_git(writer.repo, "worktree", "add", "-q", "--detach", ".worktrees/.pool/1", writer.head)
        faults = look()
        assert_says(faults, "without a branch", ".worktrees/.pool/1")
        assert_says(faults, ".worktrees/.pool is left")


def test_a_registered_worktree_without_its_directory_is_said(writer: HistoryWriter) -> None:
    with finished(writer) as look:
        run_git(writer.repo, "worktree", "add", "-q", "-b", "feat/d", ".worktrees/feat/d", writer.head)
        (writer.repo / ".worktrees" / "feat" / "d").rename(writer.repo.parent / "moved")
        assert_says(look(), "registered and gone")


def test_an_empty_directory_of_worktrees_is_said(writer: HistoryWriter) -> None:
    with finished(writer) as look:
        (writer.repo / ".worktrees").mkdir()
        assert_says(look(), ".worktrees is left")


def test_refs_of_the_coordinator_are_said_except_kept_ones(writer: HistoryWriter) -> None:
    with finished(writer) as look:
        run_git(writer.repo, "update-ref", "refs/coordinator/kept/d/1", writer.head)
        assert look() == []
        run_git(writer.repo, "update-ref", "refs/coordinator/tmp", writer.head)
        run_git(writer.repo, "update-ref", "refs/coordinator/queue/main", writer.head)
        faults = look()
        assert_says(faults, "the ref refs/coordinator/tmp is left")
        assert_says(faults, "refs/coordinator/queue/main is left, though everything is published")


def test_a_head_that_is_not_published_is_said_unless_it_may_be(writer: HistoryWriter) -> None:
    write_rest(writer)
    run_git(writer.repo, "update-ref", "refs/coordinator/queue/main", writer.head)
    assert_says(check(writer.repo, before=writer.before, meant=Meant(STATUSES)), "is not published on main")
    assert check(writer.repo, before=writer.before, meant=Meant(STATUSES, may_be_pending=True)) == []


def test_lock_files_are_said(writer: HistoryWriter) -> None:
    names = ("index.lock", "refs/heads/main.lock", "packed-refs.lock")
    with finished(writer) as look:
        for name in names:
            (writer.repo / ".git" / name).touch()
        faults = look()
        for name in names:
            assert_says(faults, f"the lock file {name} is left")


def test_strange_files_of_the_coordinator_are_said(writer: HistoryWriter) -> None:
    with finished(writer) as look:
        home = writer.repo / ".git" / "coordinator"
        (home / "logs").mkdir(parents=True)
        for name in ("lock", "worktrees.lock", "starting", "run.json"):
            (home / name).touch()
        assert look() == []
        (home / "state.json").touch()
        assert_says(look(), "coordinator/state.json is left")


def test_notices_without_a_record_are_said(writer: HistoryWriter) -> None:
    with finished(writer) as look:
        (writer.repo / ".git" / "coordinator-notices.jsonl").touch()
        assert_says(look(), "notices", "without a record")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_a_process_of_a_session_is_said(writer: HistoryWriter) -> None:
    with finished(writer) as look:
        place = writer.repo / ".worktrees" / "feat" / "a"
        environment = {**os.environ, "COORDINATOR_WORKTREE": str(place), "COORDINATOR_TASK_ID": "a"}
        # Search only once it reports that it runs: until then its environment is still the parent's.
        program = "import sys; print('up', flush=True); sys.stdin.read()"
        command = [sys.executable, "-S", "-E", "-c", program]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            assert_says(look(), f"process {process.pid} is left")
            process.kill()
        assert look() == []


def test_a_run_that_was_stopped_midway_may_leave_things(writer: HistoryWriter) -> None:
    with finished(writer):
        run_git(writer.repo, "worktree", "add", "-q", "-b", "feat/a", ".worktrees/feat/a", writer.head)
    assert writer.read_faults(has_ended=False) == []
