"""Worktrees are opened, resumed, pooled and removed, many at once, and never outside their directory."""

import json
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from run_locks import reconcile

from tasks_lib.errors import GitError, InputError
from tasks_lib.git.branches import create_branch, delete_branch
from tasks_lib.git.kept.snapshots import list_kept
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import admin_lock
from tasks_lib.git.session_record import append_notice, read_notices, read_record, write_record
from tasks_lib.git.worktree_admin import is_plain
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees
from tasks_lib.model import Notice, NoticeLevel
from tasks_lib.session.attempt_record import Record


@pytest.fixture
def worktrees(repository: Repository) -> Worktrees:
    return Worktrees(repository)


def head_of(repository: Repository) -> str:
    found = repository.branch_head("main")
    assert found
    return found


def commit(repository: Repository, name: str, content: str) -> str:
    (repository.top / name).write_text(content)
    repository.git.run("add", "--", name)
    repository.git.run("commit", "--quiet", "--message", f"Change {name}")
    return head_of(repository)


def status(worktree: Worktree) -> str:
    return worktree.git.text("status", "--porcelain", "--ignored")


def count_commands(trace: Path, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """Count the git commands that `work` starts itself; those started by git have a `/` in their session id."""
    monkeypatch.setenv("GIT_TRACE2_EVENT", str(trace))
    work()
    monkeypatch.delenv("GIT_TRACE2_EVENT")
    if not trace.exists():
        return 0
    events = [json.loads(line) for line in trace.read_text().splitlines()]
    return sum(event["event"] == "start" and "/" not in event["sid"] for event in events)


def test_branch_is_made_at_its_start_in_a_directory_of_its_name(repository: Repository, worktrees: Worktrees) -> None:
    start = head_of(repository)
    opened = worktrees.open_branch("feat/deep/a", start)
    assert opened.path == repository.top / ".worktrees" / "feat" / "deep" / "a"
    assert (opened.branch, opened.slot, opened.is_resumed) == ("feat/deep/a", 1, False)
    assert opened.git_dir == Path(opened.git.text("rev-parse", "--absolute-git-dir"))
    assert repository.branch_head("feat/deep/a") == start
    assert opened.git.text("symbolic-ref", "HEAD") == "refs/heads/feat/deep/a"
    assert status(opened) == ""
    assert not (opened.git_dir / "locked").exists()


def test_existing_worktree_is_resumed_untouched_by_another_run(repository: Repository, worktrees: Worktrees) -> None:
    opened = worktrees.open_branch("feat/a", head_of(repository))
    (opened.path / "README.md").write_text("half done\n")
    (opened.path / "new.txt").write_text("new\n")
    (opened.git_dir / "index.lock").touch()
    (repository.common_dir / "refs" / "heads" / "feat" / "a.lock").touch()
    rerun = Worktrees(repository)
    resumed = rerun.open_branch("feat/a", commit(repository, "later.txt", "later"))
    assert resumed == Worktree(opened.path, opened.git_dir, opened.slot, "feat/a", is_resumed=True)
    assert status(resumed) == " M README.md\n?? new.txt"
    resumed.git.run("commit", "--quiet", "--all", "--message", "The dead locks are gone")
    assert rerun.open_branch("feat/b", head_of(repository)).slot == opened.slot + 1


def test_worktree_in_a_rebase_counts_as_on_its_branch(repository: Repository, worktrees: Worktrees) -> None:
    opened = worktrees.open_branch("feat/a", head_of(repository))
    (opened.path / "README.md").write_text("ours\n")
    opened.git.run("commit", "--quiet", "--all", "--message", "Ours")
    onto = commit(repository, "README.md", "theirs\n")
    opened.git.run("rebase", "--quiet", onto, accept=(1,))
    assert worktrees.open_branch("feat/a", onto).is_resumed


def test_branch_without_worktree_is_opened_where_it_is(repository: Repository, worktrees: Worktrees) -> None:
    start = head_of(repository)
    later = commit(repository, "later.txt", "later")
    create_branch(repository, "feat/a", later)
    create_branch(repository, "feat/b", later)
    assert worktrees.open_branch("feat/a", start).git.resolve("HEAD") == later
    worktrees.release(worktrees.open_branch("feat/c", start))
    pooled = worktrees.open_branch("feat/b", start)
    assert (pooled.git.resolve("HEAD"), repository.branch_head("feat/b")) == (later, later)
    assert status(pooled) == ""


def test_worktree_left_on_another_commit_is_kept_and_made_anew(repository: Repository, worktrees: Worktrees) -> None:
    opened = worktrees.open_branch("feat/a", head_of(repository))
    opened.git.run("checkout", "--quiet", "--detach")
    (opened.path / "README.md").write_text("precious\n")
    reopened = worktrees.open_branch("feat/a", head_of(repository))
    assert (reopened.is_resumed, status(reopened)) == (False, "")
    (kept,) = list_kept(repository)
    assert repository.git.text("show", f"{kept.commit}:README.md") == "precious"


def test_deleted_directory_of_a_live_branch_is_made_again(repository: Repository, worktrees: Worktrees) -> None:
    opened = worktrees.open_branch("feat/a", head_of(repository))
    opened.path.rename(repository.top / "moved-away-by-hand")
    assert status(worktrees.open_branch("feat/a", head_of(repository))) == ""
    assert len(worktrees.list()) == 1


def test_foreign_directory_in_the_way_is_kept_aside(repository: Repository, worktrees: Worktrees) -> None:
    place = repository.worktrees_dir / "feat" / "a"
    place.mkdir(parents=True)
    (place / "bytes").write_text("somebody's")
    assert status(worktrees.open_branch("feat/a", head_of(repository))) == ""
    assert (repository.worktrees_dir / ".kept-feat-a-1" / "bytes").read_text() == "somebody's"
    (repository.worktrees_dir / "research").write_text("a file")
    worktrees.open_branch("research/b", head_of(repository))
    assert (repository.worktrees_dir / ".kept-research-1").read_text() == "a file"


@pytest.mark.parametrize("branch", ["../a", "/tmp/a", "feat/../../a", "-b", ".pool/1", "feat//a", "", "a/./b", "a\0b"])
def test_path_that_would_leave_the_directory_is_refused(worktrees: Worktrees, branch: str) -> None:
    with pytest.raises(InputError):
        worktrees.open_branch(branch, "HEAD")


def test_symbolic_link_on_the_way_is_refused(repository: Repository, worktrees: Worktrees, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    repository.worktrees_dir.mkdir()
    (repository.worktrees_dir / "feat").symlink_to(outside)
    with pytest.raises(InputError, match="symbolic link"):
        worktrees.open_branch("feat/a", head_of(repository))
    assert not list(outside.iterdir())


def test_worktree_is_never_made_inside_or_around_another(repository: Repository, worktrees: Worktrees) -> None:
    start = head_of(repository)
    outer = worktrees.open_branch("feat/a", start)
    with pytest.raises(InputError, match="inside the worktree"):
        worktrees.open_branch("feat/a/b", start)
    with pytest.raises(InputError, match="contains the worktree"):
        worktrees.open_branch("feat", start)
    assert status(outer) == ""


def test_branch_checked_out_by_the_user_is_an_input_error_and_costs_nothing(
    repository: Repository, worktrees: Worktrees
) -> None:
    with pytest.raises(InputError, match="check out another branch there"):
        worktrees.open_branch("main", head_of(repository))
    assert worktrees.list() == []
    assert worktrees.open_branch("feat/a", head_of(repository)).slot == 1


def test_failed_opening_leaves_no_worktree(repository: Repository, worktrees: Worktrees) -> None:
    with pytest.raises(GitError):
        worktrees.open_branch("feat/a", "0" * 40)
    worktrees.close()
    assert not repository.worktrees_dir.exists()
    assert not (repository.common_dir / "worktrees").exists()


def test_sixteen_threads_open_and_release_without_failure_or_overlap(repository: Repository) -> None:
    inside: list[int] = []
    most: list[int] = []

    @contextmanager
    def watched() -> Generator[None, None, None]:
        with admin_lock(repository):
            inside.append(1)
            most.append(len(inside))
            yield
            inside.pop()

    worktrees, start = Worktrees(repository, pool_size=4, lock=watched), head_of(repository)
    ready = threading.Barrier(16)

    def work(number: int) -> tuple[Worktree, Worktree]:
        ready.wait()
        first = worktrees.open_branch(f"feat/{number}", start)
        worktrees.release(first)
        return worktrees.open_branch(f"more/{number}", start), worktrees.open_detached(start, "verify")

    with ThreadPoolExecutor(16) as executor:
        opened = [worktree for pair in executor.map(work, range(16)) for worktree in pair]
    assert len({worktree.slot for worktree in opened}) == len({worktree.path for worktree in opened}) == 32
    assert {status(worktree) for worktree in opened} == {""}
    assert max(most) == 1
    assert len(worktrees.list()) == 16


def test_without_the_lock_changes_of_the_administration_overlap(repository: Repository) -> None:
    meeting = threading.Barrier(2)
    met: list[int] = []

    @contextmanager
    def unlocked() -> Generator[None, None, None]:
        # Each waits inside for another, which would never arrive under an exclusive lock.
        met.append(meeting.wait(timeout=300))
        yield

    worktrees = Worktrees(repository, lock=unlocked)
    with ThreadPoolExecutor(2) as executor:
        both = [executor.submit(worktrees.list) for _ in range(2)]
    assert [one.result() for one in both] == [[], []]
    assert sorted(met) == [0, 1]


def test_released_worktree_serves_the_next_branch_with_its_slot(repository: Repository, worktrees: Worktrees) -> None:
    start = head_of(repository)
    first = worktrees.open_branch("feat/deep/a", start)
    write_record(first.git_dir, Record("a", "feat/deep/a"))
    append_notice(first.git_dir, Notice(NoticeLevel.INFO, "x"))
    for name in ("README.md", "untracked.txt", "build/artefact"):
        (first.path / name).parent.mkdir(exist_ok=True)
        (first.path / name).write_text("left by the first\n")
    (first.path / "clone").mkdir()
    Repository.open(repository.top).git.run("init", "--quiet", str(first.path / "clone"))
    worktrees.release(first)
    assert not (repository.worktrees_dir / "feat").exists()
    assert (read_record(first.git_dir), read_notices(first.git_dir)) == (None, ())
    assert delete_branch(repository, "feat/deep/a", start)
    second = worktrees.open_branch("feat/b", commit(repository, "later.txt", "later"))
    assert (second.slot, second.git_dir, second.is_resumed) == (first.slot, first.git_dir, False)
    assert status(second) == ""
    assert (second.path / "later.txt").exists()
    assert [one.path for one in worktrees.list()] == [second.path]


def test_pool_hit_takes_five_commands_and_release_two(
    repository: Repository, worktrees: Worktrees, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = head_of(repository)
    opened = worktrees.open_branch("feat/a", start)
    assert count_commands(tmp_path / "1", lambda: worktrees.release(opened), monkeypatch) == 2
    assert count_commands(tmp_path / "2", lambda: worktrees.open_branch("feat/b", start), monkeypatch) == 5
    assert count_commands(tmp_path / "3", lambda: worktrees.open_branch("feat/b", start), monkeypatch) == 0


def test_kept_paths_stay_only_while_the_setup_key_is_the_same(repository: Repository) -> None:
    start = commit(repository, "packages.lock", "one")
    worktrees = Worktrees(repository, keep=["modules", "deep/cache"], setup_key=["packages.lock"])
    opened = worktrees.open_branch("feat/a", start)
    for name in ("modules/m", "deep/cache/c", "deep/other", "build/b"):
        (opened.path / name).parent.mkdir(parents=True, exist_ok=True)
        (opened.path / name).write_text("made by setup")
    worktrees.release(opened)
    same = worktrees.open_branch("feat/b", commit(repository, "unrelated.txt", "x"))
    assert sorted(p.name for p in same.path.rglob("*") if p.is_file() and p.name != ".git") == [
        ".gitignore",
        "README.md",
        "c",
        "m",
        "packages.lock",
        "unrelated.txt",
    ]
    worktrees.release(same)
    other = worktrees.open_branch("feat/c", commit(repository, "packages.lock", "two"))
    assert not (other.path / "modules").exists()
    assert not (other.path / "deep").exists()


def test_verification_never_gets_what_an_agent_left_in_kept_paths(repository: Repository) -> None:
    start = head_of(repository)
    worktrees = Worktrees(repository, keep=["modules"])
    agents = worktrees.open_branch("feat/a", start)
    (agents.path / "modules").mkdir()
    (agents.path / "modules" / "m").touch()
    worktrees.release(agents)
    verify = worktrees.open_detached(start, "verify")
    assert verify.slot != agents.slot
    assert not (verify.path / "modules").exists()
    (verify.path / "modules").mkdir()
    worktrees.switch(verify, start)
    worktrees.release(verify)
    assert (worktrees.open_detached(start, "verify").path / "modules").exists()


@pytest.mark.parametrize("name", ["/etc", "../x", "a/../../b", ""])
def test_kept_path_that_leaves_the_worktree_is_refused(repository: Repository, name: str) -> None:
    with pytest.raises(InputError, match="is outside the worktree"):
        Worktrees(repository, keep=[name])


def test_detached_worktree_moves_between_commits(repository: Repository, worktrees: Worktrees) -> None:
    first = head_of(repository)
    second = commit(repository, "later.txt", "later")
    opened = worktrees.open_detached(second, "verify")
    assert opened.path == repository.worktrees_dir / ".pool" / "1"
    (opened.path / "README.md").write_text("changed by verify\n")
    (opened.path / "build").mkdir()
    worktrees.switch(opened, first)
    assert (opened.git.resolve("HEAD"), status(opened)) == (first, "")
    assert not (opened.path / "later.txt").exists()


def test_file_hidden_from_checkout_does_not_reach_the_next_node(repository: Repository, worktrees: Worktrees) -> None:
    start = head_of(repository)
    for flag in ("--assume-unchanged", "--skip-worktree"):
        for version in (2, 4):
            opened = worktrees.open_branch(f"feat/{flag[2:]}-{version}", start)
            opened.git.run("update-index", "--index-version", str(version))
            assert is_plain(opened, repository.hash_bytes)
            opened.git.run("update-index", flag, "README.md")
            (opened.path / "README.md").write_text("hidden\n")
            worktrees.release(opened)
            assert (worktrees.open_detached(start, "verify").path / "README.md").read_text() == "# Example\n"


def test_worktree_amid_a_merge_or_with_submodules_is_removed_instead_of_pooled(
    repository: Repository, worktrees: Worktrees
) -> None:
    for leftover in ("MERGE_HEAD", "locked", "config.worktree"):
        opened = worktrees.open_branch(f"feat/{leftover}", head_of(repository))
        (opened.git_dir / leftover).write_text("x")
        worktrees.release(opened)
        assert not opened.git_dir.exists()
    opened = worktrees.open_branch("feat/sub", head_of(repository))
    (opened.path / ".gitmodules").touch()
    worktrees.release(opened)
    assert not opened.path.exists()


def test_pool_never_grows_beyond_its_size(repository: Repository) -> None:
    worktrees = Worktrees(repository, pool_size=1)
    opened = [worktrees.open_branch(f"feat/{n}", head_of(repository)) for n in range(3)]
    for worktree in opened:
        worktrees.release(worktree)
    assert [path.name for path in (repository.worktrees_dir / ".pool").iterdir()] == ["1"]


def test_read_only_directories_do_not_stop_reuse_or_removal(repository: Repository, worktrees: Worktrees) -> None:
    for end in (worktrees.release, worktrees.remove):
        opened = worktrees.open_branch("feat/a", head_of(repository))
        cache = opened.path / "build" / "cache"
        cache.mkdir(parents=True)
        (cache / "file").touch()
        cache.chmod(0o500)
        end(opened)
        assert status(worktrees.open_detached(head_of(repository), "verify")) == ""


def test_close_leaves_nothing_but_worktrees_of_branches(repository: Repository, worktrees: Worktrees) -> None:
    start = head_of(repository)
    kept = worktrees.open_branch("feat/a", start)
    (kept.path / "empty").mkdir()
    worktrees.release(worktrees.open_branch("feat/b", start))
    worktrees.open_detached(start, "verify")
    worktrees.open_detached(start, "review")
    worktrees.close()
    assert sorted(p.name for p in repository.worktrees_dir.iterdir()) == ["feat"]
    assert (kept.path / "empty").is_dir()
    worktrees.remove(kept)
    worktrees.close()
    assert not repository.worktrees_dir.exists()
    assert list((repository.common_dir / "worktrees").iterdir()) == []
    assert worktrees.open_branch("feat/c", start).slot == 1


def test_worktrees_of_the_user_are_left_alone(repository: Repository, worktrees: Worktrees, tmp_path: Path) -> None:
    repository.git.run("worktree", "add", "--quiet", "-b", "theirs", str(tmp_path / "theirs"))
    (tmp_path / "theirs").rename(tmp_path / "unmounted")
    worktrees.remove(worktrees.open_branch("feat/a", head_of(repository)))
    reconcile(worktrees)
    worktrees.close()
    (tmp_path / "unmounted").rename(tmp_path / "theirs")
    assert Repository.open(tmp_path / "theirs").top == repository.top


def test_bare_repository_has_its_worktrees_beside_it(repository: Repository, tmp_path: Path) -> None:
    bare_path = tmp_path / "bare.git"
    repository.git.run("clone", "--quiet", "--bare", str(repository.top), str(bare_path))
    bare = Repository.open(bare_path)
    worktrees = Worktrees(bare)
    opened = worktrees.open_branch("feat/a", head_of(bare))
    assert status(opened) == ""
    worktrees.release(opened)
    assert status(worktrees.open_branch("feat/b", head_of(bare))) == ""
    worktrees.remove(worktrees.list()[0])
    worktrees.close()
    assert not (tmp_path / ".worktrees").exists()
