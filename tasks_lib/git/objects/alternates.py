"""Reads a repository's alternates: the other object directories in which git finds objects."""

from pathlib import Path


def find_alternates_file(common_dir: Path) -> Path:
    """Return the file that lists the alternates of the repository whose git directory is `common_dir`."""
    return common_dir / "objects" / "info" / "alternates"


def read_alternates(common_dir: Path) -> frozenset[str]:
    """Return the object directories of other repositories that this one borrows objects from."""
    try:
        text = find_alternates_file(common_dir).read_text("utf-8", "surrogateescape")
    except OSError:
        return frozenset()
    return frozenset(text.splitlines())
