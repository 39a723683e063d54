"""A second coordinator on the same repository is refused, however it got there, with a message naming the first."""

import os
import socket
from pathlib import Path

import pytest
from cli_fixtures import Call, Main, UserRepository

from flows.data_directory import register
from tasks_lib.errors import BusyError
from tasks_lib.git.repository_lock import RunLock

WAYS = ("top", "below", "linked worktree", "symbolic link", "its own worktrees")


def find_way(repo: UserRepository, way: str) -> Path:
    match way:
        case "below":
            return repo.top / "tasks"
        case "linked worktree":
            repo.git.run("worktree", "add", "-q", "--detach", str(repo.top.parent / "mine"))
            return repo.top.parent / "mine"
        case "symbolic link":
            (repo.top.parent / "link").symlink_to(repo.top)
            return repo.top.parent / "link"
        case "its own worktrees":
            repo.git.run("worktree", "add", "-q", "--detach", str(repo.top / ".worktrees" / "mine"))
            return repo.top / ".worktrees" / "mine"
        case _:
            return repo.top


@pytest.mark.parametrize("way", WAYS)
def test_second_run_is_refused_by_whatever_path_it_came(repo: UserRepository, main_here: Main, way: str) -> None:
    path = find_way(repo, way)
    with RunLock(repo.repository.state_dir, "r1"):
        for command in ("run", "cleanup"):
            with pytest.raises(BusyError, match=rf"run r1 \(process {os.getpid()} on {socket.gethostname()}"):
                main_here(command, str(path))


def test_second_run_ends_with_two_and_one_sentence_and_starts_nothing(repo: UserRepository, call: Call) -> None:
    with RunLock(repo.repository.state_dir, "r1"):
        done = call("run", cwd=repo.top)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert f"run r1 (process {os.getpid()} on {socket.gethostname()}" in done.stderr


def test_repository_that_is_registered_once_has_one_name_by_whatever_path(repo: UserRepository) -> None:
    names = {register(UserRepository(find_way(repo, way)).repository.top) for way in WAYS}
    assert len(names) == 1


def test_run_without_its_agent_ends_with_two_and_one_sentence_and_starts_nothing(
    repo: UserRepository, call: Call
) -> None:
    repo.commit({"coordinator.yaml": "agent: {command: [no-such-agent]}\nverify: ['true']\n"})
    done = call("run", cwd=repo.top)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "`no-such-agent` is not on PATH" in done.stderr
    assert not repo.repository.worktrees_dir.exists()
