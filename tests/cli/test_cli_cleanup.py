"""What `cleanup` removes, and what it never touches."""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from cli_fixtures import SETTINGS, Call, Main, UserRepository, land, open_worktree

from tasks_lib.errors import BusyError, InputError
from tasks_lib.git.kept.snapshots import keep_state
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.git.worktrees.lifecycle import Worktrees
from tasks_lib.project.child_environment import REPOSITORY_MARKER


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a temporary directory of this test's own; in a shared one, other tests' leftovers are deleted and reported."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
    monkeypatch.setattr(tempfile, "tempdir", None)


def branches(repo: UserRepository) -> list[str]:
    return repo.git.text("for-each-ref", "--format=%(refname:short)", "refs/heads").split()


def test_landed_node_is_put_away_and_open_work_stays(repo: UserRepository, main_here: Main) -> None:
    landed, still_open = open_worktree(repo, "left"), open_worktree(repo, "right")
    land(repo, "left")
    code, output = main_here("cleanup", str(repo.top))
    assert (code, branches(repo)) == (0, ["feat/right", "main"])
    assert (landed.path.exists(), still_open.path.is_dir()) == (False, True)
    assert f"{still_open.path}: right, pending" in output
    assert (repo.top / ".worktrees" / ".pool").exists() is False


def test_bytes_that_did_not_land_are_kept_and_listed(repo: UserRepository, main_here: Main) -> None:
    landed = open_worktree(repo, "left")
    land(repo, "left")
    (landed.path / "draft.txt").write_text("not committed\n")
    code, output = main_here("cleanup", "--json", str(repo.top))
    (kept,) = json.loads(output)["kept"]
    assert (code, landed.path.exists(), kept["ref"]) == (0, False, "refs/coordinator/kept/left/1")
    assert repo.git.text("show", f"{kept['commit']}:draft.txt") == "not committed"
    again = main_here("cleanup", str(repo.top))[1]
    assert again.startswith("There was nothing to clean up.")
    assert "cleanup --restore left/1" in again


def test_dry_run_says_the_same_and_changes_nothing(repo: UserRepository, main_here: Main) -> None:
    landed = open_worktree(repo, "left")
    land(repo, "left")
    code, output = main_here("cleanup", "--dry-run", str(repo.top))
    assert (code, landed.path.is_dir(), branches(repo)) == (0, True, ["feat/left", "main"])
    assert output.splitlines()[:2] == [
        f"{landed.path}: would be removed; left has landed",
        "feat/left: would be deleted; its work has landed",
    ]


def test_landed_branch_without_a_worktree_goes_unless_it_moved_on(repo: UserRepository, main_here: Main) -> None:
    worktrees = Worktrees(repo.repository)
    for task_id in ("left", "right"):
        opened = open_worktree(repo, task_id)
        land(repo, task_id)
        worktrees.remove(opened)
    later = repo.git.run("commit-tree", "feat/right^{tree}", "-p", "feat/right", stdin=b"Later\n").text
    repo.git.run("update-ref", "refs/heads/feat/right", later)
    assert main_here("cleanup", str(repo.top))[0] == 0
    assert branches(repo) == ["feat/right", "main"]


def test_landed_branch_that_a_person_has_checked_out_stays(repo: UserRepository, main_here: Main) -> None:
    opened = open_worktree(repo, "left")
    land(repo, "left")
    Worktrees(repo.repository).remove(opened)
    repo.git.run("worktree", "add", "-q", str(repo.top.parent / "mine"), "feat/left")
    assert main_here("cleanup", str(repo.top))[0] == 0
    assert branches(repo) == ["feat/left", "main"]


def test_cleanup_refuses_while_a_run_is_going_on(repo: UserRepository, main_here: Main) -> None:
    opened = open_worktree(repo, "left")
    land(repo, "left")
    with RunLock(repo.repository.state_dir, "r1"):
        for words in ((), ("--dry-run",)):
            with pytest.raises(BusyError, match="run r1"):
                main_here("cleanup", *words, str(repo.top))
    assert opened.path.is_dir()


def test_process_that_a_killed_run_left_is_ended(repo: UserRepository, call: Call) -> None:
    marked = {**os.environ, REPOSITORY_MARKER: str(repo.repository.common_dir)}
    left = subprocess.Popen(["sleep", "600"], env=marked)
    other = subprocess.Popen(["sleep", "600"], env={**marked, REPOSITORY_MARKER: str(Path("/elsewhere"))})
    # The reaper stands in for init, which adopts the orphans of a killed run.
    reaper = threading.Thread(target=left.wait)
    reaper.start()
    try:
        assert f"process {left.pid}: would be ended" in call("cleanup", "--dry-run", cwd=repo.top).stdout
        assert f"process {left.pid}: ended" in call("cleanup", cwd=repo.top).stdout
        reaper.join()
        assert left.returncode == -signal.SIGTERM
        assert psutil.Process(other.pid).is_running()
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def keep(repo: UserRepository, task_id: str, *, staged: bool = False) -> str:
    """Keep a node's state as if something had been removed; return its ref."""
    opened = Worktrees(repo.repository).open_branch(f"feat/{task_id}", repo.git.text("rev-parse", "main"))
    (opened.path / "draft.txt").write_text("draft\n")
    if staged:
        opened.git.run("add", "draft.txt")
        (opened.path / "draft.txt").write_text("later\n")
    return str(keep_state(opened, task_id, "run"))


def make_older(repo: UserRepository, ref: str, days: float) -> None:
    moment = time.time() - days * 86_400
    os.utime(repo.repository.common_dir / "logs" / ref, (moment, moment))


@pytest.mark.parametrize("name", ["refs/coordinator/kept/left/1", "kept/left/1", "left/1", "left", "commit"])
def test_kept_state_becomes_a_branch_by_whatever_name(repo: UserRepository, main_here: Main, name: str) -> None:
    ref = keep(repo, "left", staged=True)
    keep(repo, "right")
    commit = repo.git.text("rev-parse", ref)
    named = commit[:12] if name == "commit" else name
    code, output = main_here("cleanup", str(repo.top), "--restore", named)
    assert (code, repo.git.text("rev-parse", "restored/left-1")) == (0, commit)
    assert repo.git.text("show", "restored/left-1:draft.txt") == "later"
    assert repo.git.text("show", "restored/left-1^2:draft.txt") == "draft"
    assert "git show refs/heads/restored/left-1^2" in output
    code, output = main_here("cleanup", str(repo.top), "--restore", named, "--to", "mine/again", "--json")
    found = json.loads(output)
    assert (code, found["branch"], found["has_staged"], found["ref"]) == (0, "mine/again", True, ref)


@pytest.mark.parametrize(
    ("name", "to", "why"),
    [
        ("left", "main", 'the branch "main" already exists'),
        ("left", "", '"left" matches 2 kept states; name one of them: refs/coordinator/kept/left/1'),
        ("left/1", "main/x", '"main/x" cannot be created'),
        ("left/1", "-x", '"-x" cannot be a branch'),
        ("left/1", "a..b", '"a..b" cannot be a branch'),
        ("left/3", "", 'no kept state is called "left/3"'),
        ("lft", "", 'Did you mean "left"'),
        ("main", "", 'no kept state is called "main"'),
        ("../queue/main", "", 'no kept state is called "../queue/main"'),
    ],
)
def test_restoring_refuses_what_it_cannot_do_and_changes_nothing(
    repo: UserRepository, main_here: Main, name: str, to: str, why: str
) -> None:
    keep(repo, "left")
    keep(repo, "left", staged=True)
    refs = repo.git.text("for-each-ref")
    named = name if to != "main" else "left/1"
    with pytest.raises(InputError, match=re.escape(why)):
        main_here("cleanup", str(repo.top), "--restore", named, *(["--to", to] if to else []))
    assert repo.git.text("for-each-ref") == refs


def test_pruning_forgets_what_is_old_enough_and_says_its_age(repo: UserRepository, main_here: Main) -> None:
    old, young = keep(repo, "left"), keep(repo, "right")
    make_older(repo, old, 31.5)
    make_older(repo, young, 29.5)
    code, output = main_here("cleanup", str(repo.top), "--prune", "--dry-run")
    assert (code, output) == (0, f"{old}: saved 31 days ago, would be deleted\n")
    commit = repo.git.text("rev-parse", old)
    code, output = main_here("cleanup", str(repo.top), "--prune")
    assert (code, output) == (0, f"{old}: saved 31 days ago, deleted; it was {commit}\n")
    assert repo.git.text("for-each-ref", "--format=%(refname)", "refs/coordinator") == young
    code, output = main_here("cleanup", str(repo.top), "--prune", "--json")
    assert json.loads(output) == {"is_dry_run": False, "days": 30, "pruned": []}
    code, output = main_here("cleanup", str(repo.top), "--prune", "--older-than", "29", "--json")
    assert [(one["ref"], one["days"]) for one in json.loads(output)["pruned"]] == [(young, 29)]


def test_state_that_is_kept_again_is_young_again(repo: UserRepository, main_here: Main) -> None:
    ref = keep(repo, "left")
    make_older(repo, ref, 40)
    assert keep(repo, "left") == ref
    assert "No kept state is older than 30 days" in main_here("cleanup", str(repo.top), "--prune")[1]


def test_pruning_waits_for_a_run_and_needs_to_know_how_old(repo: UserRepository, main_here: Main) -> None:
    keep(repo, "left")
    with RunLock(repo.repository.state_dir, "r1"), pytest.raises(BusyError, match="run r1"):
        main_here("cleanup", str(repo.top), "--prune", "--older-than", "0")
    repo.commit({"coordinator.yaml": f"{SETTINGS}kept_days: 0\n"})
    with pytest.raises(InputError, match="--older-than DAYS"):
        main_here("cleanup", str(repo.top), "--prune")


def test_options_that_do_not_go_together_are_all_named(repo: UserRepository, main_here: Main) -> None:
    with pytest.raises(InputError) as refused:
        main_here("cleanup", str(repo.top), "--restore", "a", "--prune", "--dry-run")
    assert len(refused.value.faults) == 2
    with pytest.raises(InputError) as refused:
        main_here("cleanup", str(repo.top), "--to", "a", "--older-than", "3")
    assert len(refused.value.faults) == 2


def test_locks_and_files_of_a_killed_run_are_named_and_then_swept(repo: UserRepository, main_here: Main) -> None:
    opened = open_worktree(repo, "right")
    state = repo.repository.state_dir
    left = [
        opened.git_dir / "index.lock",
        repo.repository.common_dir / "refs/heads/feat/left.lock",
        state / "run.json.coordinator-x",
    ]
    for path in left:
        path.touch()
    said = main_here("cleanup", "--dry-run", str(repo.top))[1]
    assert [path for path in left if f"{path}: would be removed" not in said or not path.exists()] == []
    said = main_here("cleanup", str(repo.top))[1]
    assert [path for path in left if str(path) not in said or path.exists()] == []
