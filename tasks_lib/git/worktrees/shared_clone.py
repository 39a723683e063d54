"""A clone for trying out commits: it shares the objects of the repository, but not its branches or worktrees."""

from pathlib import Path

from tasks_lib.git.commits.isolated_git import CHECKING_OUT
from tasks_lib.git.ref_names import commit_only
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git


class SharedClone:
    """A clone of `repository` at `place`, created when the first commit is checked out."""

    def __init__(self, repository: Repository, place: Path) -> None:
        self._repository: Repository = repository
        self.place: Path = place

    def check_out(self, commit: str) -> None:
        """Make the clone contain exactly the files of `commit`."""
        if not self.place.exists():
            source = str(self._repository.common_dir)
            self._repository.git.run("clone", "--quiet", "--shared", "--no-checkout", "--", source, str(self.place))
        git = Git(self.place, self.place / ".git", settings=CHECKING_OUT)
        git.run("checkout", "--quiet", "--force", "--detach", commit_only(commit), "--")
        git.run("clean", "-ffdxq")
