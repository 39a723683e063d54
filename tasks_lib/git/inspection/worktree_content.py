"""Proves that a worktree contains the tree of a commit, and notes what cannot be checked out faithfully here."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.kept.snapshots import INDEX_PREFIX
from tasks_lib.git.objects.object_database import Entry, Objects
from tasks_lib.git.runner import Git
from tasks_lib.git.worktree_admin import Worktree, has_hidden_files
from tasks_lib.naming import show_some

_CONVERTING = frozenset({"text", "crlf", "eol", "filter", "ident", "working-tree-encoding"})
_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS = "lfs"
_STATUS = ("status", "--porcelain=v2", "-z", "--untracked-files=no", "--no-renames", "--ignore-submodules=all")


@dataclass(frozen=True, slots=True)
class ContentCheck:
    """`wrong` is why the worktree does not match the commit, "" if it does; `notes` are to be reported once per run."""

    wrong: str = ""
    notes: tuple[str, ...] = ()


class ContentChecker:
    """Compares worktrees with commits as git checks them out using only the commit's settings. Call from one thread."""

    def __init__(self, isolation: IsolatedGit, objects: Objects, hash_bytes: int) -> None:
        self._isolation: IsolatedGit = isolation
        self._objects: Objects = objects
        self._hash_bytes: int = hash_bytes
        self._seen: dict[tuple[tuple[str, str], ...], tuple[str, ...]] = {}

    def prove(self, worktree: Worktree, commit: str) -> ContentCheck:
        """Check whether `worktree`, just checked out, matches `commit` file for file."""
        git = self._isolation.checking_out(worktree)
        if (at := worktree.git.resolve("HEAD")) != commit:
            return ContentCheck(f"it is at {(at or 'no commit')[:12]}")
        if has_hidden_files(worktree.git_dir / "index", self._hash_bytes):
            return ContentCheck("its index hides files")
        changed = list_changed(git)
        if lost := [path for path in changed if not self._is_as_written(git, worktree, commit, path)]:
            return ContentCheck(f"{show_some(lost)} {_count(lost, 'differs', 'differ')} from the commit")
        return ContentCheck(notes=self._take_notes(git, worktree, commit))

    def _take_notes(self, git: Git, worktree: Worktree, commit: str) -> tuple[str, ...]:
        """The notes on the attributes of `commit`, found once for each set of them, because that reads every file."""
        key = self._isolation.list_attributes(self._objects, commit)
        if key not in self._seen:
            words = list_words(self._isolation.read_attributes(self._objects, commit))
            names = {word.strip("-!").partition("=")[0] for word in words}
            notes = [*find_missing_filters(git, words)]
            if "filter" in names:
                notes += _find_pointers(git, worktree)
            if names & _CONVERTING:
                notes += self._find_unclean(git, worktree, commit)
            self._seen[key] = tuple(notes)
        return self._seen[key]

    def _find_unclean(self, git: Git, worktree: Worktree, commit: str) -> Iterator[str]:
        """A note on files that git reports as changed right after writing them; a new index compares every content."""
        with TemporaryDirectory(prefix=INDEX_PREFIX, dir=worktree.git_dir) as directory:
            place = {"GIT_INDEX_FILE": str(Path(directory) / "index")}
            git.run("read-tree", commit, environment=place)
            git.run("update-index", "-q", "--refresh", environment=place, accept=(0, 1))
            found = git.run("diff-files", "--name-only", "-z", "--ignore-submodules=all", environment=place).text
        names = [name for name in found.split("\0") if name]
        if unclean := [name for name in names if self._is_as_written(git, worktree, commit, name)]:
            yield (
                f"{show_some(unclean)} {_count(unclean, 'differs', 'differ')} from the commit as soon as git has "
                f"written {_count(unclean, 'it', 'them')}, because of line endings or a filter of .gitattributes. No "
                "agent is blamed for it; to fix it, run `git add --renormalize .` and commit."
            )

    def _is_as_written(self, git: Git, worktree: Worktree, commit: str, path: str) -> bool:
        entry = self._objects.find_entry(commit, path)
        return entry is not None and is_as_written(git, worktree, entry, path)


def list_changed(git: Git) -> list[str]:
    """The tracked paths that differ from HEAD, in the index or in the working tree."""
    paths: list[str] = []
    for entry in git.run(*_STATUS).text.split("\0"):
        if entry[:2] in ("1 ", "u "):
            paths.append(entry.split(" ", 8 if entry[0] == "1" else 10)[-1])
    return paths


def is_as_written(git: Git, worktree: Worktree, entry: Entry, path: str) -> bool:
    """Whether the file at `path` is byte for byte what `git` writes there for `entry`, whatever `git status` reports.

    Git reports a file that it has just written as changed if the commit's line endings or filters do not agree with
    its content.
    """
    file = worktree.path / path
    if not entry.is_file or file.is_symlink() or not file.is_file():
        return False
    if bool(file.stat().st_mode & 0o100) != (entry.mode == "100755"):
        return False
    written = git.run("cat-file", "--filters", f"--path={path}", entry.oid, accept=range(256))
    return written.status == 0 and written.stdout == file.read_bytes()


def list_words(lines: Iterable[str]) -> set[str]:
    """The attributes that lines of a gitattributes file set, such as `filter=lfs` and `-text`."""
    return {word for line in lines for word in line.split()[1:]}


def find_missing_filters(git: Git, words: Collection[str]) -> Iterator[str]:
    """A note on filters, and one on merge drivers, that attributes (`words`) name and that are not configured."""
    filters = {word.partition("=")[2] for word in words if word.startswith("filter=")}
    if missing := sorted(filters - _list_configured(git, "filter", ("smudge", "process", "clean"))):
        yield (
            f"The filter {show_some(missing)} of .gitattributes is not configured here, so its files are not "
            "converted: agents and `verify` see them as stored in git. Configure it, and run again."
        )
    drivers = {word.partition("=")[2] for word in words if word.startswith("merge=")}
    if missing := sorted(drivers - {"text", "binary", "union"} - _list_configured(git, "merge", ("driver",))):
        yield (
            f"The merge driver {show_some(missing)} of .gitattributes is not configured here, so its files are merged "
            "as text. Configure it, and run again."
        )


def _list_configured(git: Git, section: str, keys: Collection[str]) -> set[str]:
    pattern = rf"^{section}\..*\.({'|'.join(keys)})$"
    found = git.run("config", "--includes", "--name-only", "-z", "--get-regexp", pattern, accept=(0, 1)).text
    return {name.partition(".")[2].rpartition(".")[0] for name in found.split("\0") if name}


def _find_pointers(git: Git, worktree: Worktree) -> Iterator[str]:
    """A note on files that are only Git LFS pointers: LFS is not installed, skips them, or lacks the content."""
    listed = git.run("ls-files", "-z").stdout
    fields = git.run("check-attr", "--stdin", "-z", "filter", stdin=listed).text.split("\0")
    paths = [path for path, value in zip(fields[::3], fields[2::3], strict=False) if value == _LFS]
    if pointers := [path for path in paths if _read_start(worktree.path / path).startswith(_POINTER)]:
        yield (
            f"{show_some(pointers)} {_count(pointers, 'is a pointer', 'are pointers')} of Git LFS in the worktree, "
            "and `verify` sees a pointer instead of the content. Install git-lfs, run `git lfs fetch`, and run again."
        )


def _read_start(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(len(_POINTER))


def _count(paths: Sequence[str], one: str, many: str) -> str:
    return one if len(paths) == 1 else many
