"""Finds out which store has a submodule's commit, and keeps what would be lost with a worktree's own store.

A linked worktree has its own stores for its submodules, in its git directory. A commit that an agent makes there exists
nowhere else: a pointer to it may land only once a remote, or the repository's own store, has it.
"""

import logging
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.git.kept.snapshots import KEPT_REFS, keep_commit, keep_state
from tasks_lib.git.objects.object_database import Change
from tasks_lib.git.repository import Repository
from tasks_lib.git.runner import Git
from tasks_lib.git.worktree_admin import Worktree
from tasks_lib.naming import flatten
from tasks_lib.process.private_directories import private_directory

_log = logging.getLogger(__name__)

SUBMODULE_MODE = "160000"
REMOTE_SECONDS = 60.0
_MOST_REFS = 100
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
_LOCAL = {"GIT_ALLOW_PROTOCOL": "file"}
_PROTOCOLS = {"GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}
"""An agent can set the URL, and other protocols could run a program that it names."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """The submodule at `path`, named `name` in .gitmodules, points to `commit`, which `url` should have."""

    path: str
    commit: str
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Stores:
    """Git directories of one submodule: `lasting` in the repository, `own` in a worktree; either may be missing.

    `place` is the path of its files in the user's checkout.
    """

    lasting: Path
    own: Path
    place: Path


def list_pointers(git: Git, commit: str, changes: Sequence[Change]) -> list[Pointer]:
    """List the submodules whose pointers `changes`, up to `commit`, add or move, if `.gitmodules` names them."""
    moved = {c.path: c.new.oid for c in changes if c.new and c.new.mode == SUBMODULE_MODE and c.new != c.old}
    return _match(git, commit, moved) if moved else []


def _match(git: Git, commit: str, moved: Mapping[str, str]) -> list[Pointer]:
    listed = git.run("config", "--blob", f"{commit}:.gitmodules", "-z", "--list", accept=range(256)).text
    pairs = (entry.partition("\n")[::2] for entry in listed.split("\0") if entry.startswith("submodule."))
    values: dict[str, dict[str, str]] = {}
    for key, value in pairs:
        name, _, what = key.removeprefix("submodule.").rpartition(".")
        values.setdefault(name, {})[what] = value
    named = {about["path"]: (name, about.get("url", "")) for name, about in values.items() if "path" in about}
    safe = {path: about for path, about in named.items() if _is_safe(about[0])}
    return [Pointer(path, oid, *safe[path]) for path, oid in moved.items() if path in safe]


def _is_safe(name: str) -> bool:
    """Whether the name stays within git's `modules` directory; git refuses other names too."""
    return bool(name) and not name.startswith(("/", "-")) and ".." not in name.split("/")


def find_stores(repository: Repository, worktree: Path, git_dir: Path, pointer: Pointer) -> Stores:
    """Return the stores of a submodule for the worktree at `worktree` whose git directory is `git_dir`."""
    own = git_dir / "modules" / pointer.name
    inside = worktree / pointer.path / ".git"
    is_inside = not own.is_dir() and inside.is_dir() and not inside.is_symlink()
    lasting = repository.common_dir / "modules" / pointer.name
    return Stores(lasting, inside if is_inside else own, repository.top / pointer.path)


def secure(repository: Repository, stores: Stores, pointer: Pointer, label: str, *, is_shared: bool) -> str | None:
    """Ensure that the commit of `pointer` is in a place that lasts; return None if that is not possible.

    A remote is preferred. With `is_shared`, others get the pointer, and only a remote will do. Otherwise the commit is
    kept at a ref in the repository's own store of the submodule, which is created if necessary. Returns that store and
    ref, or "" if nothing had to be kept.
    """
    lasting = ("refs/remotes",) if is_shared else ()
    if _holds(stores.lasting, pointer.commit, lasting) or _holds(stores.own, pointer.commit, ("refs/remotes",)):
        return ""
    if not is_shared and _has(stores.own, pointer.commit):
        kept = _keep(stores, pointer, label, _find_url(repository, stores, pointer))
        return kept if _secure_inner(repository, stores, pointer, label) else None
    return "" if _is_on_remote(repository, stores, pointer) else None


def _secure_inner(repository: Repository, stores: Stores, pointer: Pointer, label: str) -> bool:
    """Secure the nested submodules of one whose commit no remote has; return False if that fails for any of them."""
    for one, inner in _list_inner(stores, pointer):
        if secure(repository, inner, one, label, is_shared=False) is None:
            return False
    return True


def _list_inner(stores: Stores, pointer: Pointer) -> Iterator[tuple[Pointer, Stores]]:
    git = Git(stores.own, stores.own)
    for one in _match(git, pointer.commit, _list_links(git, pointer.commit)):
        place = Path("modules") / one.name
        yield one, Stores(stores.lasting / place, stores.own / place, stores.place / one.path)


def _list_links(git: Git, commit: str) -> dict[str, str]:
    """Map the path of each submodule in `commit` to the commit that it points to."""
    rows = (row.partition("\t") for row in git.text("ls-tree", "-r", "-z", commit).split("\0"))
    return {path: about.split(" ")[2] for about, _, path in rows if about.startswith(SUBMODULE_MODE)}


def seed_submodules(worktree: Worktree, common_dir: Path, commit: str) -> None:
    """Copy kept submodule commits, which no remote has, into a new worktree's stores, where `setup` finds them."""
    if not (worktree.path / ".gitmodules").exists() or not (common_dir / "modules").is_dir():
        return
    for pointer in _match(worktree.git, commit, _list_links(worktree.git, commit)):
        place = Path("modules") / pointer.name
        _seed(Stores(worktree.git_dir / place, common_dir / place, worktree.path / pointer.path), pointer)


def _seed(stores: Stores, pointer: Pointer) -> None:
    """Copy from the repository's store, here `own`, into the worktree's, here `lasting`, with nested submodules."""
    if not _holds(stores.own, pointer.commit, (KEPT_REFS,)):
        return
    if not _holds(stores.lasting, pointer.commit, ()):
        url = Git(stores.own, stores.own).run("config", "--get", "remote.origin.url", accept=(0, 1)).text
        _keep(stores, pointer, "seed", url or pointer.url)
    for one, inner in _list_inner(stores, pointer):
        _seed(inner, one)


def keep_submodules(repository: Repository, path: Path, git_dir: Path) -> list[str]:
    """Keep commits and uncommitted files that exist only in a worktree's submodules at refs of the repository.

    The worktree at `path`, which may no longer exist, has the git directory `git_dir`. Returns the refs.
    """
    root, refs = git_dir / "modules", list[str]()
    is_ours = path.is_relative_to(repository.worktrees_dir)
    name = path.relative_to(repository.worktrees_dir) if is_ours else git_dir.name
    for store in _list_stores(root):
        label = f"{name}/{store.relative_to(root)}"
        try:
            own, lasting = Git(store, store), repository.common_dir / "modules" / store.relative_to(root)
            commits = dict.fromkeys((*_list_unpushed(own), *_snapshot(own, store)))
            refs += [_take(repository, store, one, label) for one in commits if not _holds(lasting, one, ())]
        except GitError as error:
            _log.warning("could not keep the content of the submodule store %s: %s", store, error)
    if refs:
        _log.warning("%s: commits that only its submodules had are kept at %s", path, ", ".join(refs))
    return refs


def _take(repository: Repository, store: Path, commit: str, label: str) -> str:
    repository.git.run(*_FETCH, str(store), commit, environment=_LOCAL)
    return keep_commit(repository.git, label, commit)


def _list_stores(root: Path) -> Iterator[Path]:
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.is_symlink() or not folder.is_dir():
            continue
        if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
            yield folder
            yield from (root / one for one in _list_stores(folder / "modules"))
        else:
            yield from _list_stores(folder)


def _list_unpushed(own: Git) -> list[str]:
    """List the tips (of branches, the stash, HEAD) that no remote-tracking ref contains."""
    rows = own.run("for-each-ref", "--format=%(objectname)", "refs/heads", "refs/stash", accept=range(256)).text.split()
    tips = [*rows, *([head] if (head := own.resolve("HEAD")) else [])]
    return [
        tip
        for tip in dict.fromkeys(tips)
        if own.run("rev-list", "--max-count=1", tip, "--not", "--remotes", accept=range(256)).text
    ]


def _snapshot(own: Git, store: Path) -> list[str]:
    """Commit the uncommitted files of a submodule and return the commit id, or none if it is clean."""
    place = own.run("config", "--file", str(store / "config"), "core.worktree", accept=range(256)).text
    path = Path(os.path.normpath(store / place)) if place else None
    if path is None or not path.is_dir() or path.is_symlink():
        return []
    worktree = Worktree(path, store, 0)
    ref = keep_state(worktree, "submodule", "", landed=worktree.git.resolve("HEAD"))
    return [commit] if ref and (commit := own.resolve(ref)) else []


# Which store or remote has a commit.


def _open(store: Path) -> Git | None:
    # Its `core.worktree` may name a directory that does not exist.
    return Git(store, store) if (store / "HEAD").is_file() else None


def _holds(store: Path, commit: str, refs: Sequence[str]) -> bool:
    """Whether a ref below `refs` (any ref if empty) in `store` contains `commit`."""
    git = _open(store)
    if git is None:
        return False
    found = git.run("for-each-ref", "--count=1", f"--contains={commit}", *refs, accept=range(256))
    return found.status == 0 and bool(found.text)


def _has(store: Path, commit: str) -> bool:
    git = _open(store)
    return git is not None and git.resolve(commit) is not None


def _is_on_remote(repository: Repository, stores: Stores, pointer: Pointer) -> bool:
    """Whether the commit can be fetched from the remote; it is fetched into a temporary repository."""
    url = _find_url(repository, stores, pointer)
    if not url:
        return False
    with private_directory() as place:
        git = Git(place)
        git.run("init", "--quiet", "--bare", *(["--object-format=sha256"] if len(pointer.commit) == 64 else []))
        words = ("fetch", "--quiet", "--depth=1", "--no-tags", "--", url, pointer.commit)
        try:
            git.run(*words, environment=_PROTOCOLS, seconds=REMOTE_SECONDS)
        except GitError:
            return False
    return True


def _find_url(repository: Repository, stores: Stores, pointer: Pointer) -> str:
    for store in (stores.own, stores.lasting):
        git = _open(store)
        if git and (url := git.run("config", "--get", "remote.origin.url", accept=range(256)).text):
            return url
    if not pointer.url.startswith(("./", "../")):
        return pointer.url
    base = repository.git.run("config", "--get", "remote.origin.url", accept=range(256)).text or str(repository.top)
    scheme, slashes, rest = base.rpartition("://")
    return f"{scheme}{slashes}{posixpath.normpath(posixpath.join(rest, pointer.url))}"


# Keep a commit in the repository's own store.


def _keep(stores: Stores, pointer: Pointer, label: str, url: str) -> str:
    git = _open(stores.lasting) or _make_store(stores, url)
    for number in range(1, _MOST_REFS):
        ref = f"{KEPT_REFS}/{flatten(label)}/{number}"
        if git.resolve(ref) is None:
            git.run(*_FETCH, str(stores.own), f"{pointer.commit}:{ref}", environment=_LOCAL)
            return f"{stores.lasting} {ref}"
    raise GitError(("fetch", str(stores.own)), 1, f"{stores.lasting} has too many refs of {flatten(label)}")


def _make_store(stores: Stores, url: str) -> Git:
    """Create the repository's own store as `git submodule update --init` would, so that it can use it later."""
    making = stores.lasting.with_name(f"{stores.lasting.name}.coordinator")
    making.mkdir(parents=True, exist_ok=True)
    Git(making).run("init", "--quiet", "--bare")
    git = Git(making, making)
    for key, value in {
        "core.bare": "false",
        "core.worktree": os.path.relpath(stores.place, stores.lasting),
        "remote.origin.url": url,
        "remote.origin.fetch": "+refs/heads/*:refs/remotes/origin/*",
    }.items():
        git.run("config", key, value)
    git.run(*_FETCH, str(stores.own), "+refs/remotes/*:refs/remotes/*", environment=_LOCAL)
    making.rename(stores.lasting)
    return Git(stores.lasting, stores.lasting)
