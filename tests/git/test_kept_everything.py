"""Whatever an agent leaves and however its worktree is removed, every byte that is not ignored stays reachable."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from run_locks import reconcile

from tasks_lib.cleanup.landed_nodes import find_node_worktrees, remove_landed
from tasks_lib.errors import GitError
from tasks_lib.git.kept import unreferenced_commits
from tasks_lib.git.kept.snapshots import list_kept
from tasks_lib.git.kept.unreferenced_commits import keep_unreferenced
from tasks_lib.git.publish.queue_head import Head
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import RunLock
from tasks_lib.git.runner import Git
from tasks_lib.git.session_record import write_record
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees
from tasks_lib.graph.task_graph import build_graph
from tasks_lib.model import Status, Task
from tasks_lib.session.attempt_record import Record
from tasks_lib.settings.schema import Settings

PRECIOUS = "precious\n"


def commit(git: Git, name: str, text: str, *words: str) -> str:
    (git.directory / name).write_text(text)
    git.run("add", "--", name)
    git.run("commit", "--quiet", "--message", f"Write {name}", *words)
    return git.text("rev-parse", "HEAD")


def leave_uncommitted(git: Git) -> None:
    (git.directory / "README.md").write_text(PRECIOUS)


def leave_untracked(git: Git) -> None:
    (git.directory / "new").mkdir()
    (git.directory / "new" / "file").write_text(PRECIOUS)


def leave_staged(git: Git) -> None:
    (git.directory / "README.md").write_text(PRECIOUS)
    git.run("add", "README.md")
    (git.directory / "README.md").write_text("another\n")


def leave_committed(git: Git) -> None:
    commit(git, "file", PRECIOUS)


def leave_stashed(git: Git) -> None:
    (git.directory / "README.md").write_text(PRECIOUS)
    git.run("stash")


def leave_amended(git: Git) -> None:
    commit(git, "file", PRECIOUS)
    commit(git, "file", "better\n", "--amend")


def leave_reset(git: Git) -> None:
    commit(git, "file", PRECIOUS)
    git.run("reset", "--quiet", "--hard", "HEAD^")


def leave_detached(git: Git) -> None:
    git.run("checkout", "--quiet", "--detach")
    commit(git, "file", PRECIOUS)


def leave_detached_and_returned(git: Git) -> None:
    branch = git.text("branch", "--show-current")
    leave_detached(git)
    git.run("checkout", "--quiet", branch)


def leave_on_a_deleted_branch(git: Git) -> None:
    branch = git.text("branch", "--show-current")
    git.run("checkout", "--quiet", "-b", "aside")
    commit(git, "file", PRECIOUS)
    git.run("checkout", "--quiet", branch)
    git.run("branch", "-D", "aside")


def leave_branch_forced_back(git: Git) -> None:
    branch = git.text("branch", "--show-current")
    start = git.text("rev-parse", "HEAD")
    leave_detached(git)
    made = git.text("rev-parse", "HEAD")
    git.run("checkout", "--quiet", "--detach", start)
    git.run("branch", "--force", branch, made)
    git.run("branch", "--force", branch, start)
    git.run("checkout", "--quiet", branch)
    (Path(git.text("rev-parse", "--absolute-git-dir")) / "logs" / "HEAD").unlink()


def make_rivals(git: Git, text: str = PRECIOUS) -> str:
    """Make two conflicting commits; the branch ends with its own and the precious one, the other is returned."""
    start = git.text("rev-parse", "HEAD")
    other = commit(git, "file", "theirs\n")
    git.run("reset", "--quiet", "--hard", start)
    commit(git, "before", text)
    commit(git, "file", "mine\n")
    return other


def leave_amid_a_rebase(git: Git) -> None:
    other = make_rivals(git)
    assert git.run("rebase", "--quiet", other, accept=(1,)).status == 1


def leave_amid_a_rebase_with_its_own_stash(git: Git) -> None:
    other = make_rivals(git, "committed\n")
    (git.directory / "before").write_text(PRECIOUS)
    assert git.run("rebase", "--quiet", "--autostash", other, accept=(1,)).status == 1


def leave_amid_a_merge(git: Git) -> None:
    other = make_rivals(git)
    assert git.run("merge", "--quiet", other, accept=(1,)).status == 1


def leave_in_a_ref_of_the_worktree(git: Git) -> None:
    leave_reset(git)
    git.run("update-ref", "refs/worktree/mine", "ORIG_HEAD")
    (Path(git.text("rev-parse", "--absolute-git-dir")) / "logs" / "HEAD").unlink()
    (Path(git.text("rev-parse", "--absolute-git-dir")) / "ORIG_HEAD").unlink()


LEAVE: tuple[Callable[[Git], None], ...] = (
    leave_uncommitted, leave_untracked, leave_staged, leave_committed, leave_stashed, leave_amended, leave_reset,
    leave_detached, leave_detached_and_returned, leave_on_a_deleted_branch, leave_branch_forced_back,
    leave_amid_a_rebase, leave_amid_a_rebase_with_its_own_stash, leave_amid_a_merge, leave_in_a_ref_of_the_worktree,
)  # fmt: skip


def go_because_it_landed(repository: Repository, worktree: Worktree) -> None:
    """As at the start of a run and in `cleanup`: an earlier run was killed just after landing it."""
    task = Task(id="a", name="A", path="tasks/a.md", status=Status.COMPLETED)
    head = Head(repository.git, "main")
    found = find_node_worktrees(repository, head, build_graph([task]), Settings())
    with RunLock(repository.state_dir, "test") as held:
        lines = remove_landed(Worktrees(repository), head, Settings(), "run", found, held)
    assert f"{worktree.path}: removed" in lines[0]


def go_because_it_is_on_another_branch(repository: Repository, worktree: Worktree) -> None:
    """As when a node is rerun whose agent has checked out something else."""
    (worktree.git_dir / "HEAD").write_text(worktree.git.text("rev-parse", "HEAD") + "\n")
    for name in ("rebase-merge", "rebase-apply"):
        for file in (worktree.git_dir / name).glob("head-name"):
            file.write_text("detached HEAD\n")
    assert not Worktrees(repository).open_branch("feat/a", str(repository.branch_head("main"))).is_resumed


def go_because_its_directory_is_gone(repository: Repository, worktree: Worktree) -> None:
    shutil.rmtree(worktree.path)
    (line,) = (line for line in reconcile(Worktrees(repository)) if "no longer exists" in line)
    assert str(worktree.path) in line


def is_reachable(repository: Repository, text: str) -> bool:
    """Whether a file with that content is reachable from a ref or a stash."""
    blob = repository.git.run("hash-object", "--stdin", stdin=text.encode()).text
    stashes = repository.git.run("rev-parse", "--verify", "--quiet", "refs/stash", accept=(0, 1)).text.split()
    refs = repository.git.text("for-each-ref", "--format=%(objectname)").split()
    return blob in repository.git.text("rev-list", "--objects", "--no-object-names", *refs, *stashes).split()


@pytest.fixture
def worktree(repository: Repository) -> Worktree:
    made = Worktrees(repository).open_branch("feat/a", str(repository.branch_head("main")))
    write_record(made.git_dir, Record("a", "feat/a"))
    return made


@pytest.mark.parametrize("leave", LEAVE, ids=lambda leave: leave.__name__)
@pytest.mark.parametrize("go", [go_because_it_landed, go_because_it_is_on_another_branch], ids=lambda go: go.__name__)
def test_what_an_agent_left_outlives_its_worktree(
    repository: Repository,
    worktree: Worktree,
    leave: Callable[[Git], None],
    go: Callable[[Repository, Worktree], None],
) -> None:
    leave(worktree.git)
    stash = repository.git.run("rev-parse", "refs/stash", accept=(0, 128)).text
    go(repository, worktree)
    assert is_reachable(repository, PRECIOUS)
    assert repository.git.run("rev-parse", "refs/stash", accept=(0, 128)).text == stash


@pytest.mark.parametrize(
    "leave", [one for one in LEAVE if one not in (leave_uncommitted, leave_untracked)], ids=lambda leave: leave.__name__
)
def test_what_git_still_holds_outlives_a_directory_that_was_deleted(
    repository: Repository, worktree: Worktree, leave: Callable[[Git], None]
) -> None:
    leave(worktree.git)
    go_because_its_directory_is_gone(repository, worktree)
    assert is_reachable(repository, PRECIOUS)


def test_commits_on_top_of_each_other_ask_git_nothing_and_keep_nothing(
    repository: Repository, worktree: Worktree
) -> None:
    """This is the usual case for every node of every run, also in a pooled worktree."""
    for number in range(2):
        commit(worktree.git, f"file-{number}", f"{number}\n")
        assert unreferenced_commits._list_noted(repository, worktree.git_dir, "feat/a") == ()  # pyright: ignore[reportPrivateUsage]
    worktrees = Worktrees(repository)
    leave_amended(worktree.git)
    assert keep_unreferenced(repository, worktree.git_dir, "feat/a", "a")
    worktrees.release(worktree)
    again = worktrees.open_branch("feat/b", str(repository.branch_head("main")))
    assert again.git_dir == worktree.git_dir
    commit(again.git, "file", "other\n")
    assert unreferenced_commits._list_noted(repository, again.git_dir, "feat/b") == ()  # pyright: ignore[reportPrivateUsage]
    assert len(list_kept(repository)) == 1


def test_several_lines_of_work_are_kept_below_one_ref_and_once(repository: Repository, worktree: Worktree) -> None:
    start = worktree.git.text("rev-parse", "HEAD")
    left: list[str] = []
    for number in range(3):
        commit(worktree.git, f"file-{number}", f"{number}\n")
        left.append(commit(worktree.git, f"more-{number}", f"{number}\n"))
        worktree.git.run("reset", "--quiet", "--hard", start)
    first = keep_unreferenced(repository, worktree.git_dir, "feat/a", "a")
    assert first
    assert set(repository.git.text("rev-list", "--no-walk", "--parents", first).split()[1:]) == set(left)
    assert keep_unreferenced(repository, worktree.git_dir, "feat/a", "a") is None
    repository.git.run("update-ref", "-d", first)
    assert keep_unreferenced(repository, worktree.git_dir, "feat/a", "a") == first


def test_logs_that_name_what_is_no_commit_any_more_stop_nothing(repository: Repository, worktree: Worktree) -> None:
    leave_amended(worktree.git)
    log = worktree.git_dir / "logs" / "HEAD"
    gone = f"{'1' * 40} {'2' * 40} A <a@b> 1 +0000\treset: moving\n"
    log.write_text(f"{log.read_text()}{gone}no line\n\x00\tx\n")
    assert keep_unreferenced(repository, worktree.git_dir, "feat/a", "a")
    log.unlink()
    (worktree.git_dir / "ORIG_HEAD").write_text("--all\n")
    try:
        keep_unreferenced(repository, worktree.git_dir, "feat/none", "b")
    except GitError as error:
        pytest.fail(str(error))
