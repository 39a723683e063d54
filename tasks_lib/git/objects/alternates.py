"""Knows where git finds objects besides a repository's own: in the object directories that its alternates name."""

from pathlib import Path


def find_alternates_file(common_dir: Path) -> Path:
    """The file that lists the alternates of the repository whose git directory is `common_dir`."""
    return common_dir / "objects" / "info" / "alternates"


def read_alternates(common_dir: Path) -> frozenset[str]:
    """The object directories of other repositories that git takes objects of this one from."""
    try:
        text = find_alternates_file(common_dir).read_text("utf-8", "surrogateescape")
    except OSError:
        return frozenset()
    return frozenset(text.splitlines())
