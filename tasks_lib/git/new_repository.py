"""Creates repositories: a new one with its first commits, or a clone of one branch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git


def create_repository(top: Path, branch: str, settings: Mapping[str, str]) -> Git:
    """Create an empty repository in the directory `top`, on `branch`, with `settings` in its own config."""
    git = Git(top)
    git.run("init", "--quiet", "--initial-branch", branch)
    for key, value in settings.items():
        git.run("config", key, value)
    return git


def commit_files(git: Git, message: str, paths: Sequence[str] = ()) -> None:
    """Commit the files at `paths`, or everything that is not ignored if `paths` is empty."""
    git.run("add", *(("--", *paths) if paths else ("--all",)))
    git.run("commit", "--quiet", "--message", message)


def clone_branch(repository: Repository, branch: str, place: Path) -> None:
    """Clone `repository` to `place`, with `branch` checked out."""
    repository.git.run("clone", "--quiet", "--branch", branch, "--", str(repository.top), str(place))
