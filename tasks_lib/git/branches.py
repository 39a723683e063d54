"""Creates and deletes branches by their full ref names; a branch that moved meanwhile is not deleted."""

from tasks_lib.errors import InputError
from tasks_lib.git.ref_names import branch_ref
from tasks_lib.git.repository import Repository
from tasks_lib.git.repository_lock import admin_lock


def require_no_alias(repository: Repository, branch: str) -> None:
    """Raise InputError if `branch` is a symbolic ref: a commit on it would move another branch."""
    try:
        content = (repository.common_dir / branch_ref(branch)).read_bytes()
    except OSError:
        return
    if content.startswith(b"ref:"):
        ref, other = branch_ref(branch), content.removeprefix(b"ref:").decode("utf-8", "replace").strip()
        raise InputError([f"{ref} is a symbolic ref to {other}; remove it with `git symbolic-ref --delete {ref}`"])


def create_branch(repository: Repository, branch: str, start: str) -> bool:
    """Create `branch` at the commit `start`; return False if it already exists. Raises GitError if git refuses."""
    if repository.git.run("update-ref", f"refs/heads/{branch}", start, "", accept=(0, 1, 128)).status == 0:
        return True
    if repository.branch_head(branch):
        return False
    # It neither exists nor was created: try again, so that GitError carries git's message.
    repository.git.run("update-ref", f"refs/heads/{branch}", start, "")
    return True


def delete_branch(repository: Repository, branch: str, expected: str) -> bool:
    """Delete `branch` and its section in git's config if it is at the commit `expected`.

    Returns True if the branch is gone, even if it was before; False, with nothing deleted, if it is at another
    commit.
    """
    deletion = ("update-ref", "--no-deref", "-d", f"refs/heads/{branch}", expected)
    if repository.git.run(*deletion, accept=(0, 1, 128)).status != 0:
        found = repository.branch_head(branch)
        if found and found != expected:
            return False
        if found:
            repository.git.run(*deletion)
    _forget_settings(repository, branch)
    return True


def _forget_settings(repository: Repository, branch: str) -> None:
    # An agent's `push -u` writes them. Reading the file is cheaper than running a command that finds nothing.
    config = repository.common_dir / "config"
    if config.exists() and f'[branch "{branch}"]'.encode() in config.read_bytes():
        with admin_lock(repository):
            repository.git.run("config", "--local", "--remove-section", f"branch.{branch}", accept=(0, 5, 128))
