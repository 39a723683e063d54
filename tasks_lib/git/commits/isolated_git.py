"""Makes git read a repository's commits and nothing else: no attributes, settings or files of a checkout.

Every merge in memory, and every checkout of a commit to verify, goes through here. Git considers much that is not in
any commit: the `.gitattributes` in the directory that it runs in, `info/attributes`, sparse checkouts,
`config.worktree`, and the user's settings for line endings and merges. Two machines, or the same one tomorrow, would
then produce different merges, and the verified files would not be those of the commit. Only the definitions of filters
and merge drivers come from the user's settings, because a commit cannot contain a program; the commit determines which
file uses which of them.
"""

import hashlib
import os
import re
import shutil
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks_lib.git.objects.object_database import Entry, Objects
from tasks_lib.git.runner import Git
from tasks_lib.git.worktree_admin import Worktree
from tasks_lib.process.private_directories import make_private, name_owner

ATTRIBUTES = ".gitattributes"
_MAX_ATTRIBUTE_BYTES = 100 << 20
"""Git's own limit: it ignores a larger attributes file."""
_OWN_DIRECTORIES = frozenset(
    {
        *("branches", "coordinator", "hooks", "info", "logs", "lost-found", "modules", "objects", "rebase-apply"),
        *("rebase-merge", "refs", "rr-cache", "sequencer", "worktrees"),
    }
)
"""Git's own directories and Coordinator's; any other directory there belongs to a filter."""
DISK_PREFIX = "coordinator-disk-"
"""Names of directories, in the git directory of a worktree, in which its file system is tried out."""
_REMEMBERED_TREES = 50_000
_ALONE = {"GIT_ATTR_NOSYSTEM": "1", "GIT_LFS_SKIP_SMUDGE": "0"}
_MERGING = (
    "core.attributesFile=/dev/null",
    "merge.default=text",
    "merge.renames=true",
    "merge.directoryRenames=conflict",
    "merge.renameLimit=7000",
    "merge.renormalize=false",
    "merge.conflictStyle=merge",
    "diff.algorithm=histogram",
)
"""Git's own defaults, for settings that the user may have changed."""
CHECKING_OUT = (
    "core.attributesFile=/dev/null",
    "core.autocrlf=false",
    "core.eol=lf",
    "core.safecrlf=false",
    "core.sparseCheckout=false",
    "index.sparse=false",
    "core.untrackedCache=false",
    "core.splitIndex=false",
    "core.trustctime=true",
    "core.checkStat=default",
)
"""Fixed values for settings that change bytes on checkout, or hide that files were changed."""


class IsolatedGit:
    """Git for the repository that `git` runs in, isolated from everything but its commits; thread-safe.

    It uses a directory of its own: `place`, or a temporary one that is removed with the object.
    """

    def __init__(self, git: Git, place: Path | None = None) -> None:
        self._git: Git = git
        self._place: Path | None = place
        self._lock: threading.RLock = threading.RLock()
        self._disks: dict[int, tuple[str, ...]] = {}
        self._found: OrderedDict[str, tuple[tuple[str, str], ...]] = OrderedDict()

    def merging(self, objects: Objects, commit: str) -> Git:
        """Return a Git for merges onto `commit`: it runs in a directory with only its `.gitattributes`."""
        directory = self._write_attributes(objects, self.list_attributes(objects, commit))
        place = {"GIT_DIR": str(self._common_dir), "GIT_WORK_TREE": str(directory), **self._shared}
        return Git(directory, variables=place, settings=_MERGING)

    def checking_out(self, worktree: Worktree) -> Git:
        """Return a Git to check out the files of `worktree` and compare them with its commit; it has no branches."""
        self._link_stores()
        place = {
            "GIT_DIR": str(worktree.git_dir),
            "GIT_WORK_TREE": str(worktree.path),
            "GIT_COMMON_DIR": str(self._common_dir),
            **self._shared,
        }
        return Git(worktree.path, variables=place, settings=(*CHECKING_OUT, *self._ask_disk(worktree)))

    def _ask_disk(self, worktree: Worktree) -> tuple[str, ...]:
        device = worktree.path.stat().st_dev
        # What a kill leaves in the worktree would count as work of its agent, so nothing is tried there if possible.
        is_beside = worktree.git_dir.stat().st_dev == device
        with self._lock:
            if device not in self._disks:
                self._disks[device] = _try_disk(worktree.git_dir if is_beside else worktree.path)
            return self._disks[device]

    def list_attributes(self, objects: Objects, commit: str) -> tuple[tuple[str, str], ...]:
        """List the path and the blob id of every attributes file in `commit` that git would read."""
        return self._list_below(objects, objects.find_tree(commit))

    def read_attributes(self, objects: Objects, commit: str) -> Iterator[str]:
        """Yield the lines of all attributes files in `commit`, without comments and empty lines."""
        for _, oid in self.list_attributes(objects, commit):
            for line in objects.read(oid).decode("utf-8", "surrogateescape").splitlines():
                if line.strip() and not line.lstrip().startswith("#"):
                    yield line.strip()

    def _list_below(self, objects: Objects, tree: str) -> tuple[tuple[str, str], ...]:
        with self._lock:
            if tree in self._found:
                self._found.move_to_end(tree)
                return self._found[tree]
        found = tuple(_find_below(objects.read_tree(tree), lambda oid: self._list_below(objects, oid)))
        with self._lock:
            self._found[tree] = found
            while len(self._found) > _REMEMBERED_TREES:
                self._found.popitem(last=False)
        return found

    def _write_attributes(self, objects: Objects, files: tuple[tuple[str, str], ...]) -> Path:
        """Return a directory with exactly these files; their content is checked, because agents can write to it."""
        name = hashlib.sha256("".join(f"{path}\0{oid}\0" for path, oid in files).encode("utf-8", "replace")).hexdigest()
        contents = {os.fsencode(path): objects.read(oid) for path, oid in files}
        contents = {path: data for path, data in contents.items() if len(data) < _MAX_ATTRIBUTE_BYTES}
        directory = self._root / "attributes" / name
        with self._lock:
            if not _holds_exactly(directory, contents):
                shutil.rmtree(directory, ignore_errors=True)
                directory.mkdir(parents=True)
                for path, data in contents.items():
                    file = directory / os.fsdecode(path)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(data)
        return directory

    def _link_stores(self) -> None:
        """Let filters find their data in the repository's git directory, such as the files of Git LFS."""
        for found in self._real.iterdir():
            link = self._common_dir / found.name
            if found.name not in _OWN_DIRECTORIES and found.is_dir() and not os.path.lexists(link):
                with suppress(FileExistsError):  # Another thread created it.
                    link.symlink_to(found)

    @cached_property
    def _root(self) -> Path:
        if self._place is not None:
            self._place.mkdir(parents=True, exist_ok=True)
            return self._place
        made = make_private(name_owner(self._real))
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return made

    @property
    def _real(self) -> Path:
        return self._git.layout.common_dir

    @cached_property
    def _shared(self) -> Mapping[str, str]:
        objects, shallow = self._real / "objects", self._real / "shallow"
        return {"GIT_OBJECT_DIRECTORY": str(objects), "GIT_SHALLOW_FILE": str(shallow), **_ALONE}

    @cached_property
    def _common_dir(self) -> Path:
        """A git directory without refs, hooks and `info`, with the repository's own config."""
        with self._lock:
            directory = self._root / "git"
            (directory / "refs").mkdir(parents=True, exist_ok=True)
            (directory / "HEAD").write_text("ref: refs/heads/none\n")
            is_sha256 = self._git.layout.object_format == "sha256"
            form = "[extensions]\n\tobjectFormat = sha256\n" if is_sha256 else ""
            version = f"[core]\n\trepositoryformatversion = {int(is_sha256)}\n\tbare = false\n"
            include = f"[include]\n\tpath = {_quote(str(self._real / 'config'))}\n"
            text = f"{version}{form}{include}"
            (directory / "config").write_text(text, "utf-8", "surrogateescape")
            return directory


def _find_below(
    entries: Sequence[Entry], look: Callable[[str], Sequence[tuple[str, str]]]
) -> Iterator[tuple[str, str]]:
    for entry in entries:
        if entry.is_tree:
            yield from ((f"{entry.name}/{path}", oid) for path, oid in look(entry.oid))
        elif entry.name == ATTRIBUTES and entry.is_file:  # Git ignores one that is a symbolic link.
            yield entry.name, entry.oid


def _holds_exactly(directory: Path, contents: Mapping[bytes, bytes]) -> bool:
    if not directory.is_dir():
        return False
    found = [path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = {os.fsencode(path.relative_to(directory)): path for path in found}
    return names.keys() == contents.keys() and all(
        not path.is_symlink() and path.is_file() and path.read_bytes() == contents[name] for name, path in names.items()
    )


def _try_disk(directory: Path) -> tuple[str, ...]:
    """Probe what the file system supports, since the config may come from another one, or be a preference.

    Returns settings (`core.ignoreCase=false`), none if the probe fails.
    """
    try:
        with TemporaryDirectory(prefix=DISK_PREFIX, dir=directory) as place:
            tried = Path(place) / "a"
            tried.write_text("")
            tried.chmod(0o644)
            has_modes = not tried.stat().st_mode & 0o100
            tried.chmod(0o755)
            has_modes = has_modes and bool(tried.stat().st_mode & 0o100)
            has_case = not (Path(place) / "A").exists()
            (Path(place) / "link").symlink_to("a")
    except OSError:
        return ()
    words = {"core.symlinks": True, **({"core.fileMode": True} if has_modes else {}), "core.ignoreCase": not has_case}
    return tuple(f"{name}={str(value).lower()}" for name, value in words.items())


def _quote(path: str) -> str:
    escaped = re.sub(r'(["\\])', r"\\\1", path).replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
