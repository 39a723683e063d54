"""What `doctor --verify` says of the lines of `verify` on the target's head, and that it leaves nothing behind."""

from pathlib import Path

import pytest
from cli_fixtures import SETTINGS, Call, UserRepository

from flows.cli.commands.doctor_verify import check_verification
from tasks_lib.git.repository_lock import RunLock


def configure(repo: UserRepository, *lines: str, setup: str = "") -> None:
    verify = "".join(f'  - "{line}"\n' for line in lines)
    begin = f'setup: ["{setup}"]\n' if setup else ""
    repo.commit({"coordinator.yaml": f"{SETTINGS[: SETTINGS.index('verify:')]}{begin}verify:\n{verify}"})


def describe(repo: UserRepository) -> list[tuple[str, str]]:
    return [(check.level, check.text) for check in check_verification(repo.top)]


def list_worktrees(repo: UserRepository) -> list[str]:
    return repo.git.text("worktree", "list", "--porcelain").split("\n\n")[1:]


def test_each_line_is_tried_on_the_head_and_not_on_the_checkout(repo: UserRepository) -> None:
    configure(repo, "test -f README.md", "test ! -e draft.txt", "pwd")
    repo.write({"draft.txt": "only here\n"})
    assert describe(repo) == [
        ("ok", f"`{line}` passes") for line in ("test -f README.md", "test ! -e draft.txt", "pwd")
    ]
    (log,) = (repo.repository.state_dir / "logs" / "head").iterdir()
    where = Path(log.read_text().rstrip().rpartition("\n")[2])
    assert where.is_relative_to(repo.repository.worktrees_dir)
    assert (where.exists(), list_worktrees(repo)) == (False, [])


def test_line_that_fails_is_said_with_what_it_printed_and_those_after_it_were_not_tried(repo: UserRepository) -> None:
    configure(repo, "true", "echo No compiler; exit 3", "echo late")
    passed, failed, late = describe(repo)
    assert passed == ("ok", "`true` passes")
    assert failed[0] == "fail"
    assert failed[1].startswith("`echo No compiler; exit 3` exited with 3 on main (")
    assert "so only work that fixes it can land: No compiler. All output is in " in failed[1]
    assert late == ("warn", "`echo late` was not tried, because `echo No compiler; exit 3` failed")
    assert list_worktrees(repo) == []


def test_setup_that_fails_is_said(repo: UserRepository) -> None:
    configure(repo, "true", setup="echo No network; exit 4")
    failed, late = describe(repo)
    assert failed[1].startswith("`echo No network; exit 4` exited with 4")
    assert late[0] == "warn"


def test_nothing_is_tried_during_a_run(repo: UserRepository) -> None:
    configure(repo, "touch $PWD/../../../tried")
    with RunLock(repo.repository.state_dir, "r1"):
        ((level, text),) = describe(repo)
    assert (level, "was not tried: " in text, "r1" in text) == ("warn", True, True)
    assert not (repo.top / "tried").exists()


@pytest.mark.parametrize(("line", "code"), [("true", 0), ("false", 2)])
def test_exit_code_says_whether_the_head_is_green(repo: UserRepository, call: Call, line: str, code: int) -> None:
    configure(repo, line)
    assert call("doctor", cwd=repo.top).returncode == 0
    done = call("doctor", "--verify", cwd=repo.top)
    assert done.returncode == code, done.stdout
    assert f"verify on the head: `{line}`" in done.stdout


def test_options_that_do_not_go_together_are_refused(repo: UserRepository, call: Call) -> None:
    assert call("doctor", "--limit", "3", cwd=repo.top).returncode == 2
    assert "machine of the run" in call("doctor", "--spoke", "--verify", cwd=repo.top).stderr
