"""Asks git about files in a checkout: whether they are tracked, ignored, or changed and not committed."""

from tasks_lib.errors import GitError
from tasks_lib.git.runner import Git


def has_tracked_files(git: Git, folder: str) -> bool:
    """Whether the index has files below `folder`, a path relative to the top of the checkout."""
    return bool(git.text("ls-files", "--", _from_top(folder)))


def is_ignored(git: Git, path: str) -> bool:
    """Whether git ignores `path`, which need not exist."""
    return git.succeeds("check-ignore", "--quiet", "--", path)


def list_uncommitted(git: Git, folder: str) -> list[str]:
    """The paths below `folder` that differ from HEAD or are untracked; none if `folder` is beyond a symbolic link.

    Does not write the index. Raises GitError if git fails for another reason.
    """
    options = ("--porcelain", "-z", "--untracked-files=all", "--no-renames")
    found = git.run(
        *("status", *options, "--", _from_top(folder)),
        accept=(0, 128),  # Git refuses a path below a symbolic link that has replaced the folder.
        environment={"GIT_OPTIONAL_LOCKS": "0"},
    )
    if found.status and "beyond a symbolic link" not in found.stderr:
        raise GitError(("status",), found.status, found.stderr)
    return [entry[3:] for entry in found.text.split("\0") if entry]


def _from_top(folder: str) -> str:
    return f":(top,literal){folder}"
