"""Copies the files and commits of a repository inside a worktree into the enclosing repository."""

import os
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.git.runner import Git
from tasks_lib.git.session_record import read_git_link
from tasks_lib.git.worktree_admin import Worktree

_ARCHIVE = ".git.tar"
"""An archive of the git directory, kept next to the files of a repository whose commits cannot be fetched."""
_MAX_TIPS = 100
_FETCH = (
    *("-c", "protocol.version=2", "-c", "protocol.file.allow=always", "-c", "fetch.fsckObjects=false"),
    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance"),
    *("--no-show-forced-updates", "--refmap=", "--"),
)


def read_embedded(worktree: Worktree, name: str) -> tuple[list[str], list[str]]:
    """Return what to keep of the repository at `name` (which ends with a slash).

    That is lines for `update-index -z --index-info`, and the tips of its history, which are fetched into the enclosing
    repository. Commits that are on one of its remotes are left out, as are those of a worktree of the enclosing
    repository.
    """
    rows = _list_files(worktree, name)
    if _is_worktree_of(worktree, worktree.path / name):
        return rows, []
    tips = _find_tips(worktree.path / name)
    if not tips:
        return rows, []
    if not _is_partial(worktree.path / name):
        with suppress(GitError):  # It uses another object format, or is broken.
            worktree.git.run(*_FETCH, str(worktree.path / name), *tips)
            return rows, tips
    return [*rows, *_archive(worktree, name)], []


def _list_files(worktree: Worktree, name: str) -> list[str]:
    top = worktree.path / name
    found = Git(top).text("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    inner = [one for one in dict.fromkeys(found) if one and ((top / one).is_symlink() or (top / one).is_file())]
    files = [one for one in inner if not (top / one).is_symlink() and "\n" not in one]
    blobs = dict(zip(files, _hash_files(worktree, (top / one for one in files)), strict=True))
    rows: list[str] = []
    for one in inner:
        path = top / one
        is_link = path.is_symlink()
        content = os.fsencode(path.readlink()) if is_link else b"" if one in blobs else path.read_bytes()
        blob = blobs.get(one) or worktree.git.run("hash-object", "-w", "--stdin", stdin=content).text
        rows.append(f"{'120000' if is_link else _find_mode(path)} {blob}\t{name}{one}\0")
    return rows


def _find_mode(path: Path) -> str:
    return "100755" if path.stat().st_mode & stat.S_IXUSR else "100644"


def _hash_files(worktree: Worktree, paths: Iterable[Path]) -> Sequence[str]:
    names = os.fsencode("".join(f"{path}\n" for path in paths))
    return worktree.git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=names).text.split()


def _is_worktree_of(worktree: Worktree, place: Path) -> bool:
    link = read_git_link(place)
    return link is not None and link.parent == worktree.git_dir.parent


def _find_tips(place: Path) -> list[str]:
    """Return the tips of the commits that only this repository has, reachable from its refs or reflogs."""
    options = ("--parents", "--topo-order", "--ignore-missing", "--reflog", "--all", "--not", "--remotes")
    found = Git(place).run("rev-list", *options, accept=(0, 128, 129)).text
    rows = [line.split(" ") for line in found.splitlines()]
    below = {parent for _, *parents in rows for parent in parents}
    return [oid for oid, *_ in rows if oid not in below][:_MAX_TIPS]


def _is_partial(place: Path) -> bool:
    """Whether part of the history is missing, so that fetching from it would yield a broken history."""
    git = Git(place)
    filters = git.run("config", "--get-regexp", r"^(extensions\.partialclone|remote\..*\.promisor)$", accept=(0, 1))
    return filters.status == 0 or git.text("rev-parse", "--is-shallow-repository") == "true"


def _archive(worktree: Worktree, name: str) -> list[str]:
    """Write an archive of the repository's git directory as a blob and return its line for `update-index`."""
    git_dir = read_git_link(worktree.path / name)
    if git_dir is None:
        return []
    with tempfile.NamedTemporaryFile(dir=worktree.git_dir, prefix="coordinator-index-") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(git_dir, arcname=".git")
        file.flush()
        blob = worktree.git.text("hash-object", "-w", "--no-filters", "--", file.name)
    return [f"100644 {blob}\t{name}{_ARCHIVE}\0"]
