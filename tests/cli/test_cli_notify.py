"""The `notify` command, which agents call from their worktree."""

from pathlib import Path

import pytest
from cli_fixtures import Call, UserRepository

from tasks_lib.git.session_record import read_notices, write_record
from tasks_lib.git.worktrees.lifecycle import Worktree, Worktrees
from tasks_lib.model import Notice, NoticeLevel
from tasks_lib.session.attempt_record import Record, TurnRecord


@pytest.fixture
def worktree(repo: UserRepository) -> Worktree:
    """The worktree of `left`, in the third turn of its session."""
    opened = Worktrees(repo.repository).open_branch("feat/left", repo.git.text("rev-parse", "main"))
    write_record(opened.git_dir, Record("left", "feat/left", turn=TurnRecord(3)))
    return opened


def test_notice_is_kept_with_the_turn_it_was_said_in(worktree: Worktree, call: Call) -> None:
    (worktree.path / "deep").mkdir()
    done = call("notify", "--level", "blocking", "Blocked: no schema", cwd=worktree.path / "deep")
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)
    assert "left (blocking)" in done.stdout
    assert read_notices(worktree.git_dir) == (Notice(NoticeLevel.BLOCKING, "Blocked: no schema", 3),)


def test_text_may_be_several_words_and_begin_with_a_dash(worktree: Worktree, call: Call) -> None:
    assert call("notify", "half", "done", cwd=worktree.path).returncode == 0
    assert call("notify", "- tried: --force\n- wrong: all", "--level=warning", cwd=worktree.path).returncode == 0
    assert read_notices(worktree.git_dir) == (
        Notice(NoticeLevel.INFO, "half done", 3),
        Notice(NoticeLevel.WARNING, "- tried: --force\n- wrong: all", 3),
    )


def test_repository_inside_the_worktree_is_passed_by(worktree: Worktree, repo: UserRepository, call: Call) -> None:
    repo.git.run("init", "-q", str(worktree.path / "vendor"))
    assert call("notify", "still here", cwd=worktree.path / "vendor").returncode == 0
    assert len(read_notices(worktree.git_dir)) == 1


def test_outside_a_worktree_nothing_is_noted(repo: UserRepository, call: Call, tmp_path: Path) -> None:
    for directory in (repo.top, tmp_path):
        done = call("notify", "hello", cwd=directory)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert call("notify", "--level", "urgent", "hello", cwd=repo.top).returncode == 2


def test_empty_text_is_refused(worktree: Worktree, call: Call) -> None:
    assert call("notify", " ", cwd=worktree.path).returncode == 2
    assert read_notices(worktree.git_dir) == ()


@pytest.mark.parametrize(
    ("until", "moment"),
    [
        ("2026-11-27T10:00:00Z", 1795773600.0),
        ("2026-11-27T10:00:00.5+02:00", 1795766400.5),
        ("1795773600", 1795773600.0),
        ("", 0.0),
    ],
)
def test_limit_is_kept_with_the_moment_when_it_ends(worktree: Worktree, call: Call, until: str, moment: float) -> None:
    options = ["--until", until] if until else []
    done = call("notify", "--level", "limit", *options, "Weekly limit", cwd=worktree.path)
    assert (done.returncode, done.stdout) == (0, "Noted for left (limit). Exit with 75 to be asked again.\n")
    assert read_notices(worktree.git_dir) == (Notice(NoticeLevel.LIMIT, "Weekly limit", 3, moment),)


@pytest.mark.parametrize(
    "options",
    [
        ("--level=limit", "--until=tomorrow"),
        ("--level=limit", "--until=2026-11-27T10:00:00"),
        ("--level=limit", "--until=-5"),
        ("--level=limit", "--until=1e300"),
        ("--level=limit", "--until=nan"),
        ("--until=1795773600",),
    ],
)
def test_moment_that_says_nothing_is_refused(worktree: Worktree, call: Call, options: tuple[str, ...]) -> None:
    done = call("notify", *options, "Weekly limit", cwd=worktree.path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--until" in done.stderr
    assert read_notices(worktree.git_dir) == ()


def test_notify_imports_neither_prefect_nor_git(worktree: Worktree, call: Call) -> None:
    done = call("notify", "quick", cwd=worktree.path, environment={"PYTHONPROFILEIMPORTTIME": "1"})
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tasks_lib.git.session_record" in modules, done.stderr
    assert modules.isdisjoint({"prefect", "git", "httpx", "rustworkx", "rich.console", "asyncio"})
