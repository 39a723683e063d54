"""Finds the git directories that a commit in a worktree writes to, for an agent with a sandbox of its own."""

from pathlib import Path


def find_git_directories(worktree: Path) -> tuple[Path, ...]:
    """The common git directory and, in a linked worktree, its own; none if `worktree` is not one."""
    link = worktree / ".git"
    if link.is_dir():
        return (link.resolve(),)
    if not link.is_file():
        return ()
    own = worktree / link.read_text("utf-8", "surrogateescape").removeprefix("gitdir:").strip()
    shared = own / "commondir"
    if not shared.is_file():
        return (own.resolve(),)
    return ((own / shared.read_text("utf-8", "surrogateescape").strip()).resolve(), own.resolve())
