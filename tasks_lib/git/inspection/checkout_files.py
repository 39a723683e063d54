"""Says what git knows of files in a checkout: whether they are tracked, ignored, or changed and not committed."""

from tasks_lib.errors import GitError
from tasks_lib.git.runner import Git


def has_tracked_files(git: Git, folder: str) -> bool:
    """Whether the index has files below `folder`, a path from the top."""
    return bool(git.text("ls-files", "--", _from_top(folder)))


def is_ignored(git: Git, path: str) -> bool:
    """Whether git ignores `path`, which need not exist."""
    return git.succeeds("check-ignore", "--quiet", "--", path)


def list_uncommitted(git: Git, folder: str) -> list[str]:
    """The paths below `folder` that differ from HEAD or are not tracked; none where `folder` is a link out of git.

    Writes no index. Raises GitError where git cannot say.
    """
    options = ("--porcelain", "-z", "--untracked-files=all", "--no-renames")
    found = git.run(
        *("status", *options, "--", _from_top(folder)),
        accept=(0, 128),  # Git refuses to look below a link that stands where the folder is in git.
        environment={"GIT_OPTIONAL_LOCKS": "0"},
    )
    if found.status and "beyond a symbolic link" not in found.stderr:
        raise GitError(("status",), found.status, found.stderr)
    return [entry[3:] for entry in found.text.split("\0") if entry]


def _from_top(folder: str) -> str:
    return f":(top,literal){folder}"
